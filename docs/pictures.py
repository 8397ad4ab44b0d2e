"""Take the README's pictures from a finished quickstart: its report, and the page while the poet answers.

Usage: .venv/bin/python docs/pictures.py            (needs the dev extra, and Chromium)
"""

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from danlu.serve.serve import start_in_background

RUN = Path("runs/quickstart")
HERE = Path(__file__).parent / "images"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]


def write_poem(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("textbox").first.fill("江南春")
    page.get_by_role("textbox").first.press("Enter")
    page.wait_for_timeout(4000)


def main() -> None:
    browser_path = next(
        path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))
    )
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as play, start_in_background(RUN / "sft" / "model") as server:
        browser = play.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1120, "height": 1000}, locale="zh-CN")
        page.goto((RUN / "report.html").absolute().as_uri())
        page.screenshot(path=HERE / "report.png", clip={"x": 0, "y": 0, "width": 1120, "height": 1500}, full_page=True)
        write_poem(page, server.url)
        page.screenshot(path=HERE / "page.png")
        browser.close()


if __name__ == "__main__":
    main()
