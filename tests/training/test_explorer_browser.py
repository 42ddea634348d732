"""The explorer page in a real browser: Chromium, by the keyboard, as a person uses it."""

import json
import re
import shutil

import pytest

from training.pseudo_labels.screen_run import ScreenOptions, run_screen

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,800",
]

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver here: the page is not driven"
)


class Page:
    """The page as a person sees it: keys in, words out."""

    def __init__(self, driver, path):
        self.driver, self.path = driver, path
        self.load()

    def load(self):
        self.driver.get(self.path.as_uri())
        return self

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)
        return self

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.find(name).text

    def choose(self, name, value):
        script = (
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change'))"
        )
        self.driver.execute_script(script, name, value)

    def wait(self, condition):
        return WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: condition())


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    folder = tmp_path_factory.mktemp("browser")
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, label_folder, tmp_path):
    options = ScreenOptions.checked(
        labels=label_folder, out=tmp_path / "out", depth=tmp_path / "depth"
    )
    run_screen(options)
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    opened = Page(driver, tmp_path / "out" / "explorer.html")
    driver.execute_script("localStorage.clear()")
    yield opened.load()
    assert driver.get_log("browser") == []  # no error, and nothing that the page was refused


def saved(page, tmp_path):
    """Save with the key, wait for the download, and read it."""
    page.press("s")
    path = tmp_path / "decisions-drive.json"
    page.wait(lambda: path.exists() and path.stat().st_size)  # empty until it is whole
    read = json.loads(path.read_text())
    return path, {d["stem"]: d["verdict"] for d in read["decisions"]}


def test_accept_reject_undo_save_reload_and_the_file_decides(page, label_folder, tmp_path):
    assert page.text("stem") == "good0"
    assert "Kept 6 of 16, 37.5 %. DepthCropSeg kept 1,378 of 17,199, 8.0 %." in page.text("ratio")
    page.press("r")
    assert page.text("stem") == "good1"
    page.press("a", "r")
    assert page.text("counts") == "1 accepted, 2 rejected, 9 open"
    assert "Kept 4 of 16" in page.text("ratio")
    page.press("u")
    assert (page.text("stem"), page.text("badge")) == ("good2", "no decision yet")
    page.press("u", "u", "u")  # more than there were
    assert (page.text("stem"), page.text("counts")) == ("good0", "0 accepted, 0 rejected, 12 open")
    page.press("r", "a")

    page.load()
    assert page.text("stem") == "good2"
    assert page.text("counts") == "1 accepted, 1 rejected, 10 open"
    page.press(Keys.HOME)
    assert page.text("badge") == page.text("stamp") == "✕ rejected"
    page.press("u")  # undo outlives the reload
    assert (page.text("stem"), page.text("badge")) == ("good1", "no decision yet")
    page.press("a", Keys.HOME)

    path, verdicts = saved(page, tmp_path)
    assert verdicts == {"good0": "reject", "good1": "accept"}
    out = tmp_path / "out"
    run_screen(ScreenOptions.checked(labels=label_folder, out=out, decisions=path))
    assert not (out / "drive" / "images" / "good0.jpg").exists()

    page.driver.execute_script("localStorage.clear()")
    page.load()  # the new page knows what was decided, in a browser that knows nothing
    assert page.text("counts") == "1 accepted, 1 rejected, 10 open"


def test_a_page_made_from_decisions_starts_from_them_in_a_browser_that_knows_others(
    page, label_folder, tmp_path
):
    page.press("a")
    path, _ = saved(page, tmp_path)
    page.press("r", "r", "r")  # progress that is in this browser only
    options = {"labels": label_folder, "out": tmp_path / "out", "decisions": path}
    run_screen(ScreenOptions.checked(**options))
    page.load()
    assert page.text("counts") == "1 accepted, 0 rejected, 11 open"


def test_filter_sort_find_and_jump(page):
    page.choose("show", "kind agreement")
    assert (page.text("stem"), page.text("of")) == ("shifted", "of 1")
    assert page.text("reason").startswith("Automatic: drop, because colour agrees to")
    page.choose("show", "open")
    page.choose("sort", "score")
    page.press(Keys.HOME)
    assert page.text("stem") == "score"
    page.press("/", "good", Keys.ENTER)
    assert page.text("of") == "of 6"
    page.press("g", "3", Keys.ENTER)
    assert page.text("stem") == "good3"  # lowest score first: good5, good4, good3
    page.press("a", "n")
    assert page.text("stem") == "good1"
    page.press("/", "nothing of that name")
    assert page.find("empty").is_displayed()
    assert not page.find("accept").is_enabled()


def test_buttons_do_what_keys_do_and_letters_typed_into_a_field_do_not(page):
    page.press("/", "score", Keys.ENTER)
    assert page.text("counts") == "0 accepted, 0 rejected, 12 open"
    page.find("accept").click()
    assert page.text("badge") == "✓ accepted"  # the last of its list stays
    page.find("undo").click()
    assert page.text("badge") == "no decision yet"
    page.press("?")
    assert page.find("keys").is_displayed()
    page.find("letters").click()
    page.press(Keys.ESCAPE, "a")
    assert page.text("badge") == "no decision yet"


def test_label_and_depth_come_into_view_and_go(page):
    painted = (
        "const c = document.getElementById('mask');"
        "return c.width && c.getContext('2d').getImageData(0, 0, c.width, c.height)"
        ".data.some((v, i) => i % 4 === 3 && v === 255)"
    )
    page.wait(lambda: page.driver.execute_script(painted))
    size = "return [...document.querySelectorAll('.stage img')].map((i) => i.naturalWidth)"
    page.wait(lambda: all(page.driver.execute_script(size)))
    picture = page.find("picture").get_attribute("src")
    page.press("m", "d")
    assert not page.find("mask").is_displayed()
    assert page.find("picture").get_attribute("src") != picture
    page.press("m", "d")
    assert page.find("mask").is_displayed()
    assert page.find("picture").get_attribute("src") == picture


def test_a_decisions_file_goes_on_in_another_browser_and_a_wrong_one_changes_nothing(
    page, tmp_path
):
    page.press("a", "r")
    path, _ = saved(page, tmp_path)
    page.driver.execute_script("localStorage.clear()")
    page.load()
    good = json.loads(path.read_text())
    wrong = {
        "cut.json": (path.read_text()[:-20], "damaged or no decisions file"),
        "other.json": (json.dumps({**good, "pool": "orchard"}), "about other images"),
    }
    for name, (text, message) in wrong.items():
        (tmp_path / name).write_text(text)
        page.find("file").send_keys(str(tmp_path / name))
        page.wait(lambda message=message: message in page.text("alert"))
        assert page.text("counts") == "0 accepted, 0 rejected, 12 open"
    page.find("file").send_keys(str(path))
    page.wait(lambda: page.text("counts") == "1 accepted, 1 rejected, 10 open")
    assert not page.find("alert").is_displayed()


def test_of_three_thousand_pictures_only_those_in_view_exist(page, tmp_path):
    text = page.path.read_text()
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', text)[1])
    picture = re.search(r'id="p0">(.*?)</script>', text)[1]
    first = facts["images"][0]
    facts["images"] = [{**first, "stem": f"picture{i:05d}"} for i in range(3000)]
    head, rest = text.split('<script type="application/json"', 1)
    script = rest.split("<script>", 1)[1]
    large = tmp_path / "large.html"
    large.write_text(
        f'{head}<script type="application/json" id="facts">{json.dumps(facts)}</script>'
        + "".join(f'<script type="text/plain" id="p{i}">{picture}</script>' for i in range(3000))
        + f"<script>{script}"
    )
    page.driver.get(large.as_uri())
    page.press(Keys.END, Keys.HOME, *"arar", Keys.END)
    assert page.text("stem") == "picture02999"
    assert page.text("counts") == "2 accepted, 2 rejected, 2,996 open"
    cells = page.driver.execute_script("return document.querySelectorAll('#film button').length")
    assert 5 < cells < 40
