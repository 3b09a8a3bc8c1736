// @ts-check
/** Makes images smaller. They are drawn on a canvas, which has no metadata, so the place where a photo was taken is not sent. */

/** The longest sides that are tried, in pixels, the largest first. */
const SIDES = [1_536, 1_024, 768, 512];
/** The qualities of JPEG that are tried for each size. */
const QUALITIES = [0.85, 0.6];
/** The maximum size of an image in bytes, if there is room for more. */
const MAX_BYTES = 400_000;
const JPEG = "image/jpeg";

/**
 * Returns an image as a blob of at most `most` bytes, or null if it does not fit even at its smallest size. The image is
 * upright, and of an animation, it is the first frame. Photos become JPEG, and drawings stay PNG if they fit.
 *
 * Rejects if the browser cannot decode the image.
 * @param {Blob} file @param {number} most
 */
export async function shrunk(file, most) {
  const bitmap = await createImageBitmap(file);
  const room = Math.min(most, MAX_BYTES);
  const longest = Math.max(bitmap.width, bitmap.height);
  try {
    for (const side of SIDES) {
      const canvas = drawn(bitmap, Math.min(1, side / longest));
      if (file.type !== JPEG) {
        const blob = await encoded(canvas, "image/png");
        if (blob.size <= room) return blob;
        fillBehind(canvas); // JPEG has no transparency
      }
      for (const quality of QUALITIES) {
        const blob = await encoded(canvas, JPEG, quality);
        if (blob.size <= room) return blob;
      }
    }
    return null;
  } finally {
    bitmap.close();
  }
}

/** Returns a blob as a data URL. @param {Blob} blob @param {string} [type] the media type, if the blob has none @returns {Promise<string>} */
export function dataUrl(blob, type = blob.type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^data:[^,;]*/, `data:${type}`));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Draws an image on a canvas of its size times a scale. @param {ImageBitmap} bitmap @param {number} scale */
function drawn(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Makes the transparent parts of an image white. @param {HTMLCanvasElement} canvas */
function fillBehind(canvas) {
  const context = contextOf(canvas);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
}

/** Returns the drawing context of a canvas. @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** Encodes a canvas. Rejects if the browser cannot, for example because the canvas is too large.
 * @param {HTMLCanvasElement} canvas @param {string} type @param {number} [quality] @returns {Promise<Blob>}
 */
function encoded(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("not encoded"))), type, quality);
  });
}
