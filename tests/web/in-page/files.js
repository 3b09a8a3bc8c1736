/* Runs inside a page: makes image files, and pastes or drops them on the widget. Returns their sizes in bytes. */
async (how, images) => {
  const chat = document.querySelector("holdline-chat").shadowRoot;
  const data = new DataTransfer();
  const sizes = [];
  for (const [name, type, width, height, turned] of images) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    context.fillStyle = "#0000ff";
    context.fillRect(0, 0, width, height);
    for (let dot = 0; dot < width * height / 900; dot++) {
      context.fillStyle = `hsl(${dot * 47 % 360} 80% 50%)`;
      context.fillRect(Math.random() * width, height / 2 + Math.random() * height / 2, 25, 25);
    }
    let blob = await canvas.convertToBlob({ type, quality: 0.95 });
    if (turned) {
      // An EXIF segment with the orientation 6: the viewer turns the image clockwise by a quarter.
      const exif = [0xff, 0xe1, 0, 34, 69, 120, 105, 102, 0, 0, 77, 77, 0, 42, 0, 0, 0, 8, 0, 1,
        1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0];
      blob = new Blob([blob.slice(0, 2), new Uint8Array(exif), blob.slice(2)], { type });
    }
    sizes.push(blob.size);
    data.items.add(new File([blob], name, { type }));
  }
  const init = { bubbles: true, cancelable: true, composed: true };
  if (how === "paste") chat.querySelector("#prompt").dispatchEvent(new ClipboardEvent("paste", { ...init, clipboardData: data }));
  else for (const type of ["dragenter", "dragover", "drop"]) chat.querySelector(".panel").dispatchEvent(new DragEvent(type, { ...init, dataTransfer: data }));
  return sizes;
}
