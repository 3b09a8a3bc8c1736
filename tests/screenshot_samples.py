"""What the screenshots show besides Holdline: a page of a site, and code that is reviewed."""

from __future__ import annotations

SHOP = """<style>
  body { margin: 0; font: 1rem/1.6 Georgia, serif; color-scheme: light dark;
    background: light-dark(#fdf8f1, #1d1916); color: light-dark(#33281d, #e9dfd2) }
  main { max-width: 44rem; margin: 0 auto; padding: 3rem 1.5rem }
  h1 { font-size: 2.5rem; margin: 0 0 0.5rem } p { margin: 0 0 1rem; opacity: 0.85 }
</style><main><h1>Bread and Butter</h1><p>We bake at night, so that it is warm when you come.</p>
<p>Rye with caraway, white with poppy seed, and on Saturdays the plait.</p></main>"""
SNIPPET = """import json

CACHE = {}


def load(path, seen=[]):
    # TODO: close the file
    if path in CACHE:
        return CACHE[path]
    try:
        if path == None:
            return None
        for name in open(path).read().split():
            for other in seen:
                if other == name:
                    while name in seen:
                        seen.remove(name)
        return eval(open(path).read())
    except:
        return None


def store(path, value):
    assert (path, "a path is needed")
    with open(path, "w") as file:
        json.dump(value, file)
"""

# The folder that is reviewed, without the end of each file.
FOLDER = {
    "cart.js": """export function total(items) {
  var sum = 0;
  for (const item of items) {
    if (item.price == 0) continue;
    sum += item.price; // TODO: discounts
  }
  console.log(sum);
  return sum;
}
""",
    "page.ts": """export function show(element: HTMLElement, text: string) {
  element.innerHTML = text;
  try { load(); } catch (error) { }
}
""",
    "src/main.rs": """fn main() {
    let text = std::fs::read_to_string("cart.txt").unwrap();
    println!("{}", text);
}
""",
    "package-lock.json": "{}",
    ".env": "KEY=",
    "node_modules/left/index.js": "",
}
