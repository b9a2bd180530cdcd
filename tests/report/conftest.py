"""Synthetic runs and a real Chromium; the browser tests skip by name where there is none."""

import pathlib
import shutil
import sys

import pytest

from humpback_jax.report.page import write_report

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import made_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
NEEDS = "needs the extra `browser`: pip install 'humpback_jax[browser]'"
AXE_IMPACTS = ("serious", "critical")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> pathlib.Path:
    """A run of 60 pairs, two rounds, seven of its pages hostile; with its report."""
    folder = tmp_path_factory.mktemp("small") / "small <b> run"
    made_run.make_run(folder, 60)
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def curated_run(tmp_path_factory) -> pathlib.Path:
    """A run of 60 pairs by a recipe with a curator and an arm; with its report."""
    folder = tmp_path_factory.mktemp("curated") / "curated run"
    made_run.make_curated_run(folder, 60)
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason=NEEDS)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """A function that opens an address; at the end no page may have logged an error, nor asked the network."""
    contexts, problems = [], []

    def open_(address, width=1440, height=900, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = ("file:", "blob:", "data:", "http://127.0.0.1:")
        page.on("request", lambda request: None if request.url.startswith(own) else problems.append(request.url))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture(scope="session")
def violations():
    """A function that gives axe-core's serious and critical violations of a page."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs `pip install axe-playwright-python`"
    )

    def run(page):
        found = axe.Axe().run(page).response["violations"]
        return [
            (violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
            for violation in found
            if violation["impact"] in AXE_IMPACTS
        ]

    return run
