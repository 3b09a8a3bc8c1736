import { createRoot } from "react-dom/client";
import { Copilot } from "./Documented2";

createRoot(document.getElementById("root")!).render(<Copilot threadId={new URLSearchParams(location.search).get("id")!} />);
