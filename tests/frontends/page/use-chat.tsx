import { createRoot } from "react-dom/client";
import { Chat } from "./Documented0";

createRoot(document.getElementById("root")!).render(<Chat id={new URLSearchParams(location.search).get("id")!} />);
