import { createHash } from "node:crypto";

/** Returns the SHA-256 of a text in hexadecimal digits. @param {string} text */
export const sha256 = (text) => createHash("sha256").update(text).digest("hex");
