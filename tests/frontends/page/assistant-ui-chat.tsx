import { createRoot } from "react-dom/client";
import { Assistant } from "./Documented1";

createRoot(document.getElementById("root")!).render(<Assistant id={new URLSearchParams(location.search).get("id")!} />);
