/* Runs inside a page: a block above the view shrinks, and a block in the view grows. Returns the distance to the end, and whether the button for the latest text is hidden. */
async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const { EndFollower } = await import("/web/end-follower.js");
  const block = (height) => {
    const made = document.createElement("div");
    made.style.height = `${height}px`;
    return made;
  };
  const [log, content, blocks] = [block(400), document.createElement("div"), Array.from({ length: 20 }, () => block(100))];
  log.style.overflowY = "auto";
  content.append(...blocks);
  log.append(content);
  document.body.prepend(log);
  // A browser may notify observers a frame later, after the scroll event.
  const Observer = window.ResizeObserver;
  window.ResizeObserver = class { observe() {} };
  const follower = new EndFollower(log, content, "latest");
  window.ResizeObserver = Observer;
  follower.keep();
  for (let number = 0; number < 3; number += 1) await frame();
  const scrolled = new Promise((done) => log.addEventListener("scroll", done, { once: true }));
  blocks[0].style.height = "20px";
  blocks.at(-1).style.height = "160px";
  await Promise.race([scrolled, new Promise((done) => setTimeout(done, 2000))]);
  await frame();
  const shown = [Math.round(log.scrollHeight - log.scrollTop - log.clientHeight), follower.latest.hidden];
  log.remove();
  return shown;
}
