"""Looks at every page of the built site with a real browser, as wide as a telephone, a tablet and a screen.

Run as ``python tests/tools/look_at_site.py build/docs``. It prints what is wrong and exits with 1 if anything is.
Without a browser it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = (375, 1024, 1440)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_LOOK = r"""() => {
  const faults = [];
  const box = element => element.getBoundingClientRect();
  const name = element => element.tagName.toLowerCase() + (element.id ? "#" + element.id : "")
    + " “" + (element.getAttribute("src") || element.textContent).trim().replace(/\s+/g, " ").slice(0, 40) + "”";
  // The theme's article would scroll sideways too: only a table or code may, inside it.
  const scrolls = element => !element.matches("article")
    && (["auto", "scroll"].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));

  if (document.documentElement.scrollWidth > innerWidth) {
    faults.push(`is ${document.documentElement.scrollWidth} px wide`);
  }
  for (const each of document.querySelectorAll("article *")) {
    if (box(each).right > innerWidth + 1 && !scrolls(each.parentElement)) {
      faults.push(`leaves the window with ${name(each)}`);
      break;
    }
  }

  const header = document.querySelector("header.bd-header");
  const items = [...header.querySelectorAll("a, button")].filter(
    each => each.checkVisibility({visibilityProperty: true}) && box(each).width && !each.closest(".dropdown-menu"));
  for (const item of items) {
    if (box(item).left < 0 || box(item).right > innerWidth) {
      faults.push(`has a header that leaves the window: ${name(item)}`);
    }
  }
  for (const [number, one] of items.entries()) {
    for (const other of items.slice(number + 1)) {
      if (box(one).bottom <= box(other).top || box(other).bottom <= box(one).top) {
        faults.push(`has a header of several rows: ${name(one)}, ${name(other)}`);
      } else if (box(one).left < box(other).right - 1 && box(other).left < box(one).right - 1) {
        faults.push(`has a header whose parts overlap: ${name(one)}, ${name(other)}`);
      }
    }
  }

  for (const target of document.querySelectorAll("article section[id], article dt[id], article span[id]")) {
    if (target.tagName === "SPAN" && !target.matches(".target, :empty")) continue;
    target.scrollIntoView({behavior: "instant"});
    if (box(target.querySelector("h1, h2, h3, h4") || target).top < box(header).bottom - 1) {
      faults.push(`hides the target of a link behind its header: #${target.id}`);
    }
  }
  scrollTo({top: 0, behavior: "instant"});

  for (const image of document.querySelectorAll("article img")) {
    if (!image.naturalWidth) faults.push(`lacks a picture: ${name(image)}`);
    if (!image.alt.trim()) faults.push(`has a picture without a text in its place: ${name(image)}`);
  }

  // The theme's links to the next page hide what is wider than they are.
  for (const each of document.querySelectorAll("article *, .prev-next-area *")) {
    if (getComputedStyle(each).overflowX === "hidden" && each.scrollWidth > each.clientWidth + 1) {
      faults.push(`cuts ${name(each)}`);
    }
  }

  const text = element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getBoundingClientRect();
  };
  for (const each of document.querySelectorAll("article div")) {
    if (!parseFloat(getComputedStyle(each).borderLeftWidth)) continue;
    const walker = document.createTreeWalker(each, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const at = text(walker.currentNode);
      if (walker.currentNode.data.trim() && at.width && at.left < box(each).left + 4) {
        faults.push(`has a text that touches its border: ${name(each)}`);
      }
    }
  }
  for (const each of document.querySelectorAll("article p")) {
    if (/^\|.*\|/.test(each.textContent.trim())) faults.push(`shows a table's source: ${name(each)}`);
  }
  for (const each of document.querySelectorAll("article td")) {
    const lines = text(each).height / parseFloat(getComputedStyle(each).lineHeight);
    const words = each.textContent.trim().split(/\s+/).length;
    if (lines > 4.5 && words < 1.3 * lines && box(each).width < 128) {
      faults.push(`has a column of one word a line: ${name(each)}`);
    }
  }
  return [...new Set(faults)];
}"""


def find_faults(page: Page, site: Path) -> Iterator[str]:
    """Yields what is wrong with a page of the site at one of the widths, a sentence each."""
    for file in sorted(site.rglob("*.html")):
        if "_static" not in file.parts:
            page.goto(file.as_uri())
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                for fault in page.evaluate(_LOOK):
                    yield f"{file.relative_to(site)} at {width} px {fault}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, help="the directory that Sphinx has built")
    site = parser.parse_args().site.resolve()
    if CHROMIUM is None:
        print("Nobody looked at the pages: there is no browser. Install Debian's package chromium.")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        faults = list(find_faults(browser.new_page(), site))
        browser.close()
    print("".join(f"{fault}\n" for fault in faults), end="")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
