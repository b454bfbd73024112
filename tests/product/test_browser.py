"""What a person sees: logs in, picks an image, watches the server start, reads a variable in a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from sandbox.api import Fault
from sandbox.assembly import Sandbox
from sandbox.waiting import HANG_SECONDS, PATIENCE

pytestmark = [pytest.mark.browser, pytest.mark.processes]

IMAGE = "quay.io/example/forecast-notebook:3.6"
DOCUMENT = f"""
profiles:
- name: globals
  resources: {{mem_limit: 1Gi, cpu_limit: 500m}}
- name: forecasting
  users: [grace]
  images: ['{IMAGE}']
  env: {{BUCKET_PREFIX: data/forecast}}
  resources: {{mem_limit: 2Gi}}
"""
PATIENT = {"KubeSpawner": PATIENCE}

_SIZE_OF_WHAT_IS_SHOWN = """() => {
    const shown = [...document.querySelectorAll("body *")].filter(
        each => !each.childElementCount && each.checkVisibility() && each.getBoundingClientRect().height);
    const bottom = Math.max(...shown.map(each => each.getBoundingClientRect().bottom + scrollY));
    return {width: innerWidth, height: Math.ceil(bottom) + 24};
}"""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            chromium_sandbox=False,
            # A list that scrolls is to be seen to.
            ignore_default_args=["--hide-scrollbars"],
            args=["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
            viewport={"width": 1200, "height": 680},
        )
        browser.set_default_timeout(HANG_SECONDS * 1000)
        expect.set_options(timeout=HANG_SECONDS * 1000)
        yield browser.pages[0]
        await browser.close()


async def picture(page: Page | Locator, name: str) -> None:
    """Keeps a screenshot where `SCREENSHOTS` names a directory: of a page, or of a part with a margin around it.

    A page is shown from its top to the end of what is on it.
    """
    if directory := os.environ.get("SCREENSHOTS"):
        path = f"{directory}/{name}.png"
        if isinstance(page, Page):
            size = await page.evaluate(_SIZE_OF_WHAT_IS_SHOWN)
            await page.screenshot(path=path, clip={"x": 0, "y": 0, **size}, full_page=True)
        elif box := await page.bounding_box():
            x, y, width, height = box["x"] - 16, box["y"] - 16, box["width"] + 32, box["height"] + 32
            await page.page.screenshot(path=path, clip={"x": x, "y": y, "width": width, "height": height})


@contextlib.asynccontextmanager
async def told_before_it_runs(sandbox: Sandbox) -> AsyncIterator[None]:
    """Keeps a server from running, and so the page that tells of its start from being left."""
    may_run = asyncio.Event()
    sandbox.api.faults.append(Fault(gate=may_run, verb="patch", resource="pods"))
    yield
    may_run.set()


async def log_in(page: Page, sandbox: Sandbox, user: str) -> None:
    await page.goto(f"{sandbox.hub.url}/hub/spawn")
    await page.fill("input[name=username]", user)
    await page.fill("input[name=password]", sandbox.hub.settings.password)
    await page.click("input[type=submit]")


async def test_a_person_gets_the_variables_of_the_profiles_that_match(page: Page) -> None:
    async with Sandbox(DOCUMENT, traits=PATIENT) as sandbox:
        await log_in(page, sandbox, "grace")
        await expect(page.locator("form#spawn_form, form").first).to_contain_text(IMAGE)
        await picture(page, "spawn-form")
        async with told_before_it_runs(sandbox):
            await page.get_by_role("button", name="Start").click()
            line = page.locator("#progress-log").get_by_text(
                "Profiles applied: globals, forecasting. 2 GiB of memory, 0.5 CPU."
            )
            await expect(line).to_be_attached()
            await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
            await picture(page, "spawn-progress")

        await page.wait_for_url(re.compile(r"/user/grace/lab"))
        await page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
        await expect(page.get_by_role("button", name="Python 3 (ipykernel) | Idle")).to_be_visible()
        await page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        await page.keyboard.type("import os; print(os.environ['BUCKET_PREFIX'], os.environ['MEM_LIMIT'])")
        await page.keyboard.press("Shift+Enter")
        output = page.locator(".jp-OutputArea-output").first
        await expect(output).to_have_text(re.compile(r"data/forecast 2147483648"))
        await picture(page, "notebook")


SCARCE = """
profiles:
- resources: {mem_limit: 1Gi, cpu_limit: 500m}
sizes:
- {name: Small, description: For reading notebooks., resources: {mem_limit: 2Gi}}
- {name: GPU, description: For training models., gpu: 1, resources: {mem_limit: 8Gi}}
quotas:
- {name: GPUs of the course, hard: {requests.nvidia.com/gpu: 0}}
"""


async def test_a_size_without_room_cannot_be_chosen(page: Page) -> None:
    async with Sandbox(SCARCE, traits=PATIENT) as sandbox:
        await log_in(page, sandbox, "grace")
        gpu = page.get_by_role("radio", name="GPU")
        await expect(gpu).to_be_disabled()
        await expect(gpu).to_have_accessible_description(re.compile("the quota .* allows no GPU"))
        await expect(page.get_by_role("radio", name="Default")).to_be_checked()
        await picture(page, "sizes-full")
        await page.set_viewport_size({"width": 375, "height": 800})
        await page.evaluate("document.documentElement.dataset.bsTheme = 'dark'")
        await picture(page, "sizes-full-narrow")


async def test_a_person_is_told_whom_to_ask_when_the_profiles_are_broken(page: Page) -> None:
    async with Sandbox("profiles: [{nmae: broken}]", traits=PATIENT) as sandbox:
        await log_in(page, sandbox, "grace")
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("body")).to_contain_text("please ask the administrators of this JupyterHub")
        await expect(page.locator("body")).not_to_contain_text("nmae")
        await picture(page, "spawn-refused")


async def test_the_image_that_one_had_is_selected_after_an_edit_of_the_document(page: Page) -> None:
    # As the tutorial has it: the first document names no image, the second does, the third is not valid.
    steps = [
        ("profiles: [{name: globals}]", "example/notebook:latest", "example/notebook:latest"),
        (DOCUMENT, "example/notebook:latest", IMAGE),
        (DOCUMENT.replace("2Gi", "2GB"), IMAGE, "example/notebook:latest"),
    ]
    async with Sandbox(steps[0][0]) as sandbox:
        await log_in(page, sandbox, "grace")
        for document, selected, picked in steps:
            sandbox.write_document(document)
            await page.goto(f"{sandbox.hub.url}/hub/spawn")
            await expect(page.locator("form select")).to_have_value(selected)
            await page.locator("form select").select_option(picked)
            await page.get_by_role("button", name="Start").click()
            await page.wait_for_url(re.compile(r"/user/grace/lab"))
            assert (await sandbox.look_into("grace")).image == picked
            await sandbox.client.stop_server("grace")


SIZES = f"""
{DOCUMENT}
sizes:
- name: Small
  description: For reading notebooks and small data.
  resources: {{mem_limit: 2Gi, cpu_limit: 1}}
- name: Large & long
  description: For training models; please stop the server when you are done.
  users: [grace]
  resources: {{mem_limit: 8Gi, mem_guarantee: 4Gi, cpu_limit: 4}}
- name: For others
  users: [ada]
  resources: {{mem_limit: 64Gi}}
"""


async def test_the_form_of_a_document_with_sizes(page: Page) -> None:
    async with Sandbox(SIZES.replace(" & long", ""), traits=PATIENT) as sandbox:
        await log_in(page, sandbox, "grace")
        await expect(page.get_by_role("radio", name="Large")).to_be_enabled()
        await picture(page, "sizes-form")


async def test_a_person_chooses_a_size_and_finds_it_selected_the_next_time(page: Page) -> None:
    async with Sandbox(SIZES, traits=PATIENT) as sandbox:
        await log_in(page, sandbox, "grace")
        sizes = page.get_by_role("group", name="Size")
        await expect(sizes.get_by_role("radio")).to_have_count(3)
        await expect(sizes.get_by_role("radio", name="Default")).to_be_checked()
        await expect(page.get_by_text("A server", exact=True)).to_be_visible()
        large = sizes.get_by_role("radio", name="Large & long", exact=True)
        await expect(large).to_have_accessible_description(
            re.compile("For training.*8 GiB of memory .4 GiB guaranteed., 4 CPUs")
        )
        # Anywhere on the row.
        await sizes.get_by_text("please stop the server").click()
        await expect(large).to_be_checked()
        async with told_before_it_runs(sandbox):
            await page.get_by_role("button", name="Start").click()
            line = page.locator("#progress-log").get_by_text(
                "Profiles applied: globals, forecasting, size Large & long. 8 GiB of memory (4 GiB guaranteed), 4 CPUs."
            )
            await expect(line).to_be_attached()
        await page.wait_for_url(re.compile(r"/user/grace/lab"))

        await sandbox.client.stop_server("grace")
        await page.goto(f"{sandbox.hub.url}/hub/spawn")
        await expect(large).to_be_checked()
        sandbox.write_document(SIZES.replace("Large & long", "Larger"))
        await page.get_by_role("button", name="Start").click()
        # On the form, or on the page of a start that took longer than a second to fail.
        await expect(page.locator("body")).to_contain_text(
            "there is no size 'Large & long' for grace; choose one of: default, Small, Larger."
        )
        await page.goto(f"{sandbox.hub.url}/hub/spawn")
        await expect(sizes.get_by_role("radio", name="Default")).to_be_checked()
        await expect(page.get_by_role("alert")).to_have_text("Your last size, 'Large & long', is not available now.")
        await expect(sizes).to_have_accessible_description("Your last size, 'Large & long', is not available now.")


ALONE = {"KubeSpawner": PATIENCE | {"profile_list": []}}
IMAGES = f"""
{SIZES.replace(" & long", "")}
images:
- name: Forecasting
  description: Python 3.13 with statsmodels, and R.
  image: '{IMAGE}'
  until: {datetime.now(UTC).date() + timedelta(days=20)}
- name: RStudio
  description: R 4.5 with the tidyverse.
  image: example/rstudio:4.5
# A browser sends the end of the line as two characters.
- name: "Minimal\\n"
  image: example/minimal:1
"""


async def test_a_person_chooses_image_and_size_on_any_screen(page: Page) -> None:
    async with Sandbox(IMAGES, traits=ALONE) as sandbox:
        await log_in(page, sandbox, "grace")
        images, sizes = (page.get_by_role("group", name=name) for name in ("Image", "Size"))
        await expect(images.get_by_role("radio")).to_have_count(3)
        await expect(sizes.get_by_role("radio")).to_have_count(3)
        await expect(images.get_by_role("radio", name="Forecasting")).to_have_accessible_description(
            re.compile(r"^Python 3.13 with statsmodels, and R. Until the end of [0-9]+ [A-Z][a-z]+")
        )
        for width, height, scheme, name in (
            (1280, 900, "dark", None),
            (1280, 900, "light", "choices-form"),
            (360, 1010, "light", None),
            (360, 1010, "dark", "choices-form-narrow"),
        ):
            await page.set_viewport_size({"width": width, "height": height})
            await page.emulate_media(color_scheme=scheme)
            await page.reload()
            await expect(page.locator(f"[data-bs-theme={scheme}] #spawn_form")).to_be_visible()
            assert await page.locator("#spawn_form").evaluate("form => form.scrollWidth <= form.clientWidth")
            if name == "choices-form":
                # The README and the landing page show it: without the hub around it, it can be read on a telephone too.
                await picture(page.locator("#spawn_form"), name)
            elif name:
                await picture(page, name)

        # With the keyboard alone: one stop for each group, arrows within it.
        await images.get_by_role("radio", name="Forecasting").focus()
        await page.keyboard.press("ArrowDown")
        await expect(images.get_by_role("radio", name="RStudio")).to_be_checked()
        await page.keyboard.press("ArrowDown")
        await expect(images.get_by_role("radio", name="Minimal")).to_be_checked()
        await page.keyboard.press("Tab")
        await expect(sizes.get_by_role("radio", name="Default")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        await expect(sizes.get_by_role("radio", name="Small")).to_be_checked()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile(r"/user/grace/"))
        assert (await sandbox.look_into("grace")).image == "example/minimal:1"


async def test_a_list_of_forty_images_stays_usable(page: Page) -> None:
    listed = "\n".join(
        f"- {{name: Course {number:02}, description: For its exercises., image: 'example/course:{number}'}}"
        for number in range(40)
    )
    async with Sandbox(f"{SIZES}\nimages:\n{listed}", traits=ALONE) as sandbox:
        await log_in(page, sandbox, "grace")
        images = page.get_by_role("group", name="Image 40 to choose from")
        await images.get_by_role("radio", name="Course 25").check()
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_url(re.compile(r"/user/grace/lab"))
        await sandbox.client.stop_server("grace")

        for width, height in ((360, 640), (1280, 680)):
            await page.set_viewport_size({"width": width, "height": height})
            await page.goto(f"{sandbox.hub.url}/hub/spawn")
            last = images.get_by_role("radio", name="Course 25")
            await expect(last).to_be_checked()
            await images.evaluate("group => group.scrollIntoView()")
            # Nobody has scrolled the list, and it is seen.
            await expect(last).to_be_in_viewport(ratio=1)
            await picture(images, "choices-form-long")
            await expect(images.get_by_role("radio", name="Course 00")).to_be_in_viewport(ratio=1)
            await last.focus()
            for _ in range(12):
                await page.keyboard.press("ArrowDown")
            at = images.get_by_role("radio", name="Course 37")
            await expect(at).to_be_focused()
            await expect(at).to_be_in_viewport(ratio=1)
            await expect(images.get_by_role("radio", name="Course 36")).to_be_in_viewport(ratio=1)
            # What stands below it is not far.
            assert await images.evaluate("group => group.offsetHeight < innerHeight")
