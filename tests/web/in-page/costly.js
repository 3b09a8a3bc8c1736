/* Runs inside a page: shows stored answers that could take a Markdown parser quadratic time. */
async ([length, names]) => {
  const { Markdown } = await import("/web/markdown.js");
  const { STATUS } = await import("/web/status.js");
  const filled = (unit, size = length) => unit.repeat(Math.ceil(size / unit.length)).slice(0, size);
  const around = (open, close) => filled(open, length / 2) + filled(close, length / 2);
  const growing = (line) => {
    let text = "";
    for (let index = 1; text.length < length; index += 1) text += line(index);
    return text.slice(0, length);
  };
  const table = (columns, row) => `${filled("|a", 2 * columns)}|\n${filled("|-", 2 * columns)}|\n${filled(row)}`;
  const units = [
    "word ", "_a__b", "_a__b\n", "_a__b\n\n", "*a**b", "*a ", "a* ", "**a ", "*", "_", "*a_ ", "**x* ", "a**b", "a_b", "a*.", ".*", "_._",
    "中**（", "😀*", "***a ", "*a _b **c __d ", "~", "~~a ", "~a~~", "[", "]", "![", "[a](", "[a", "[a](<b", "[](", "[a](b ", "[a][",
    "[a] ", "[a]: b\n", "[a]:", "[a]: <", "[a](x\"", "![a](b)", "[a](b) ", "`", "`a ", "``a`", "`a``b", "<", "<a ", "<a b=\"", "<!-",
    "<!--", "<![CDATA[", "<?", "<http:", "http://a", "http://a(", "http://a)", "http://a&b;", "http://a..", "www.", "www.a.", "a@b.",
    "a.", "a@", "a-_", "mailto:a@b.c", "&", "&amp", "&#1", "\\", "\\(", "\\[", "\\a", "\\_", "\\(a ", "\\[a\n", "$", "$$", "$a ", "$$a ",
    "$a\n", "$$\n", "$$\na\n\n", ">", "> ", "> a\n", "> a\n\n", "> - ", "> - a\n", "- ", "- a\n", "- a\n\n", "- a\n+ b\n", "- [ ] a\n",
    "- > ", "* ", "1. a\n", "1.\n", "a\n=\n", "a\n", "=\n", "-\n", "*\n", "#", "# a\n", "# a ####", "***\n", "- -", "|", "|a", "|-", "|\n",
    "a|b\n-|-\n", "```\n", "~~~", "```a\n`", "    a\n", "    a\n\n", "\t", "\n", " \n", " ", "<div>\n", "</a>", "<p>\n\n", "<a\n", "a  \n",
    "a\\\n", "!", "(", ")", "\"", "'", "@", "/", "-", "+", ":", "1", "A1", "a",
  ];
  const made = {
    "emphasis": around("*a **b ", " a** b*"), "brackets": around("[", "]"), "links": around("[a](", ")"), "images": around("![", "](a)"),
    "parentheses": `[a](${around("(", ")")}`, "ticks": growing((index) => `${"`".repeat(index)} `),
    "stars": growing((index) => `${"*".repeat(index)}a`), "quotes": growing((index) => `${">".repeat(index % 1_000)} a\n`),
    "lists": growing((index) => `${"  ".repeat(index % 500)}- a\n`), "targets": growing((index) => `[a${index}]: b\n`),
    "target": `[a]: b\n\n${filled("[a] ")}`, "wide table": table(length / 8, "|\n"), "table": table(2, "|*c|_d|\n"),
    "lazy list": `- a\n${filled("a\n")}`, "long item": `- a\n${filled("  a\n")}`, "lazy quote": `> a\n${filled("a\n")}`,
    "blank item": `- a\n${filled("\n")}`, "open fence": `\`\`\`\n${filled("`` `\n")}`, "underlined": `${filled("a\n")}===\n`,
    "title": `[a]: b '${filled("c\n")}`, "html": `<div>\n${filled("a\n")}`, "comment": `<!-- ${filled("a-")}`,
  };
  for (const unit of units) made[unit] = filled(unit);
  for (const name of names ?? Object.keys(made)) {
    const place = document.createElement("div");
    document.body.append(place);
    performance.mark(`costly ${name}`);
    await new Promise((resolve) => {
      const markdown = new Markdown(place, STATUS);
      markdown.onshown = resolve;
      markdown.show(made[name], true);
    });
    await new Promise(requestAnimationFrame);
    place.remove();
  }
  performance.mark("costly");
  return Object.keys(made).length;
}
