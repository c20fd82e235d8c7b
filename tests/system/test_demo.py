"""The demo, run as a newcomer runs it: the command, its summary, its page, Ctrl-C; and the pure parts of its work.

Each run takes a few small packages: it ends within seconds and still has chunks enough to kill a worker in one.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.examine import Facts, examine
from demo.sources import decode, files
from demo.treemap import HEIGHT, WIDTH, Tile, treemap
from tests.support import ROOT, environment, eventually, processes_of, title_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Database

PACKAGES = "asyncio,email,encodings,importlib,json,multiprocessing,unittest,xml"
PORT = str(20_000 + os.getpid() % 200 * 100)  # another run of these tests beside this one has ports of its own
SMALL = ("--packages", PACKAGES, "--chunk-size", "5", "--port", PORT)
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
RUN_TIMEOUT_S = 90
SETTING_UP = """
import django; django.setup()
from django.core.management import call_command as call; call("migrate", verbosity=0)
from demo import analyses, library; library.load(["json"])
from demo.models import Analysis, Chunk, Finding
"""


def demo_environment(database: Database, place: Path) -> dict[str, str]:
    """Return the environment in which the demo works on the database of a test."""
    where = database.env.get("JOBSUP_TEST_POSTGRES") or f"sqlite:///{database.env['JOBSUP_TEST_SQLITE']}"
    own = {"DJANGO_SETTINGS_MODULE": "demo.settings", "DATABASE_URL": where, "DEMO_DIR": str(place)}
    return environment(own)


class Demo:
    """`manage.py demo` in a process group of its own, its output in a file."""

    def __init__(self, database: Database, place: Path, *arguments: str) -> None:
        self.output = place / "output.txt"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "django_app" / "manage.py"), "demo", *SMALL, *arguments],
                env=demo_environment(database, place),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def text(self) -> str:
        """Return what it has said."""
        return self.output.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""

        def said() -> bool:
            ended = self.process.poll()
            found = text in self.text()
            assert found or ended is None, f"ended with {ended} before saying {text!r}:\n{self.text()}"
            return found

        eventually(said, RUN_TIMEOUT_S, repr(text), self.text)

    def end(self) -> tuple[int, str]:
        """Wait for its end and return the exit code and what it has said."""
        return self.process.wait(RUN_TIMEOUT_S), self.text()

    def interrupt(self) -> None:
        """Do as a terminal does at Ctrl-C: signal the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def address(self) -> str:
        """Return the address of its site."""
        found = re.search(r"site +(http://\S+)", self.text())
        assert found, self.text()
        return found[1]


@contextmanager
def running(database: Database, place: Path, *arguments: str) -> Iterator[Demo]:
    """Run the demo; at the end of the block it is gone, whatever happened."""
    place.mkdir(exist_ok=True)
    demo = Demo(database, place, *arguments)
    try:
        yield demo
    finally:
        demo.process.kill()  # does nothing to one that has ended
        demo.process.wait()


def rows(query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the database of the test."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def test_one_run_kills_a_worker_and_is_complete_all_the_same(database: Database, tmp_path: Path) -> None:
    """The run ends by itself with 0; each document is found once, the kill is accounted for, both results are equal."""
    with running(database, tmp_path / "demo", "--once") as demo:
        code, text = demo.end()
    assert code == 0, text
    for expected in ("equal, document by document", "by SIGKILL, in the middle of chunk", "Nothing is left running."):
        assert expected in text, text
    assert re.search(r"accounted +Job \d+, attempt 1: worker \d \(pid \d+\) was killed by SIGKILL", text), text
    [(documents,)] = rows("SELECT count(*) FROM demo_document")
    [(findings,)] = rows("SELECT count(*) FROM demo_finding")
    assert findings == 2 * documents > 400, "each document once in the parallel run and once in the serial one"
    kills = rows("SELECT c.job_id, k.attempt FROM demo_kill k JOIN demo_chunk c ON c.id = k.chunk_id")
    cut_short = "traceback LIKE '%while running%'"
    assert rows(f"SELECT job_id, attempt FROM jobsup_failedattempt WHERE {cut_short}") == kills
    assert len(kills) == 1
    # A short chunk that returned just before the kill may be lost with it, before its end was recorded; it says so.
    others = rows(f"SELECT traceback FROM jobsup_failedattempt WHERE NOT {cut_short}")
    [(pid,)] = rows("SELECT pid FROM demo_kill")
    assert all(f"(pid {pid})" in words and "before that was recorded" in words for (words,) in others), others


def test_without_kill_and_serial_run(database: Database, tmp_path: Path) -> None:
    """Both can be left out; then no attempt is lost."""
    with running(database, tmp_path / "demo", "--once", "--no-kill", "--no-serial") as demo:
        code, text = demo.end()
    assert code == 0, text
    assert "killed" not in text
    assert "serial " not in text
    assert rows("SELECT count(*) FROM jobsup_failedattempt") == [(0,)]


@ON_SQLITE
def test_ctrl_c_in_mid_analysis_drains(database: Database, tmp_path: Path) -> None:
    """Ctrl-C ends all of it with 0; what was not begun waits in the database, and nothing is half done."""
    with running(database, tmp_path / "demo", "--no-kill", "--chunk-size", "1") as demo:
        demo.wait_for("documents sent as primary keys")
        eventually(lambda: rows("SELECT 1 FROM demo_chunk WHERE finished_at IS NOT NULL"), what="a finished chunk")
        demo.interrupt()
        code, text = demo.end()
    assert code == 0, text
    assert "Nothing is left running." in text
    assert rows("SELECT count(*) FROM jobsup_job WHERE status = 2") == [(0,)], "a job was left RUNNING"
    [(waiting,)] = rows("SELECT count(*) FROM jobsup_job WHERE status = 0")
    [(unfinished,)] = rows("SELECT count(*) FROM demo_chunk WHERE finished_at IS NULL")
    assert waiting == unfinished > 0


@ON_SQLITE
def test_a_supervisor_that_dies_is_told(database: Database, tmp_path: Path) -> None:
    """When a child of the demo is gone it says so, clears up and ends with 1."""
    with running(database, tmp_path / "demo", "--no-kill", "--no-serial") as demo:
        demo.wait_for("Ctrl-C drains")
        [supervisor] = [pid for pid in processes_of(demo.process.pid) if "jobsup: supervisor" in title_of(pid)]
        os.kill(supervisor, signal.SIGKILL)
        code, text = demo.end()
    assert code == 1, text
    assert "the supervisor was ended by SIGKILL" in text


class Browser:
    """As much of a browser as a form needs: cookies, and the hidden field against forged requests."""

    def __init__(self) -> None:
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, url: str) -> str:
        """Return a page."""
        with self.opener.open(url, timeout=10) as answer:
            return str(answer.read().decode())

    def post(self, page: str, url: str, **values: Any) -> str:
        """Send a form that stands on a page and return where it led to."""
        hidden = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(page))
        assert hidden
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": hidden[1], **values}, doseq=True).encode()
        with self.opener.open(url, data=body, timeout=10) as answer:
            return str(answer.url)


@ON_SQLITE
def test_the_page_starts_an_analysis_kills_a_worker_and_shows_the_result(database: Database, tmp_path: Path) -> None:
    """The form answers at once; the page tells the progress, the kill, the result and the comparison."""
    browser = Browser()

    def progress(page: str) -> dict[str, Any]:
        return dict(json.loads(browser.get(f"{page}progress.json")))

    with running(database, tmp_path / "demo", "--no-kill", "--no-serial") as demo:
        demo.wait_for("Ctrl-C drains")
        home = demo.address()
        page = browser.post(home, home, packages=PACKAGES.split(","), chunk_size=10)
        assert "/analysis/" in page

        def kill_one() -> bool:
            browser.post(home, f"{page}kill/")
            return bool(rows("SELECT 1 FROM demo_kill")) or progress(page)["state"] == "finished"

        eventually(kill_one, what="a kill", timeout_s=30)
        eventually(lambda: progress(page)["state"] == "finished", RUN_TIMEOUT_S, "the end of the analysis", demo.text)
        now = progress(page)
        assert now["share"] == 1
        assert {"kill", "lost", "again"} <= {event["kind"] for event in now["events"]}, now["events"]
        browser.post(home, f"{page}serial/")
        eventually(lambda: progress(page)["serial"]["state"] == "finished", RUN_TIMEOUT_S, "the serial run", demo.text)
        result = browser.get(page)
        assert "The results are equal" in result
        assert '<svg class="treemap"' in result
        demo.interrupt()
        code, text = demo.end()
    assert code == 0, text


def run_program(database: Database, place: Path, program: str) -> str:
    """Run a program in the demo's own settings, with one small package loaded, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", SETTING_UP + program],
        env=demo_environment(database, place),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@ON_SQLITE
def test_the_page_says_when_no_supervisor_runs(database: Database, tmp_path: Path) -> None:
    """Without a supervisor the page says so and how to start one."""
    program = "from django.test import Client\nprint(Client(SERVER_NAME='localhost').get('/').content.decode())"
    page = run_program(database, tmp_path / "demo", program)
    assert re.search(r'id="no-supervisor" role="status">\s*<strong>No supervisor is running', page), page
    assert "manage.py jobsupervisor --workers 2" in page


def test_a_chunk_that_is_done_twice_is_found_once(database: Database, tmp_path: Path) -> None:
    """A second attempt that knows nothing of the first one adds nothing, and the analysis ends with its last chunk."""
    program = (
        "analysis = analyses.start(['json'], 2)\n"
        "who = {'worker': 'somebody', 'pid': 1}\n"
        "for chunk in analysis.chunks.all():\n"
        "    print(Analysis.objects.get().finished_at is None, end=' ')\n"
        "    twin = Chunk.objects.get(pk=chunk.pk)\n"
        "    analyses.work(chunk, chunk.document_ids, attempt=1, **who)\n"
        "    analyses.work(twin, chunk.document_ids, attempt=2, **who)\n"
        "print(Finding.objects.count() == analysis.document_count, Analysis.objects.get().finished_at is not None)\n"
    )
    assert set(run_program(database, tmp_path / "demo", program).split()) == {"True"}


@ON_SQLITE
def test_a_difference_is_found(database: Database, tmp_path: Path) -> None:
    """A changed fact and a lost one are both seen when two runs are compared."""
    program = (
        "analysis = analyses.start(['json'], 2)\n"
        "for chunk in analysis.chunks.all():\n"
        "    analyses.work(chunk, chunk.document_ids, attempt=1, worker='somebody', pid=1)\n"
        "serial = analyses.prepare_serial(analysis)\n"
        "print(analyses.prepare_serial(analysis))\n"
        "analyses.run_serially(serial)\n"
        "print(analyses.differences(analysis, serial))\n"
        "first, second, *_ = serial.findings.order_by('pk')\n"
        "Finding.objects.filter(pk=first.pk).update(lines=first.lines + 1)\n"
        "second.delete()\n"
        "print(analyses.differences(analysis, serial))\n"
    )
    assert run_program(database, tmp_path / "demo", program).split() == ["None", "0", "2"]


def test_facts_of_a_small_file() -> None:
    """Lines, functions, classes, names, branches and imports are counted."""
    source = (
        "import os.path, sys\n"
        "from . import near\n"
        "from json import loads\n"
        "class A:\n"
        "    async def one(self, x):\n"
        "        def inner():\n"
        "            return [y for y in x if y and self.z]\n"
        "        return inner if x else None\n"
        "def two(): pass"
    )
    assert examine(source) == Facts(
        lines=9,
        functions=3,
        classes=1,
        longest_name="A.one",
        longest_lines=4,
        knottiest_name="A.one.inner",
        knottiest_paths=4,
        paths=7,
        identifiers=5,
        imports=["json", "os", "sys"],
    )


def test_a_file_that_does_not_parse_is_a_finding() -> None:
    """A syntax error is told in words and with its line."""
    facts = examine("def right(): pass\ndef wrong(:\n")
    assert facts.lines == 2
    assert facts.functions == 0
    assert facts.error.startswith("SyntaxError: ")
    assert facts.error.endswith("line 2")
    assert examine("") == Facts(), "an empty file has nothing, not even a line"


@pytest.mark.parametrize(
    ("raw", "source", "unreadable"),
    [
        (b"x = 1\r\n", "x = 1\n", ""),
        (b"# coding: latin-1\nx = '\xe4'\n", "# coding: latin-1\nx = 'ä'\n", ""),
        (b"x = '\xe4'\n", "", "SyntaxError: invalid or missing encoding declaration"),
        (b"x = '\0'\n", "", "ValueError: source code cannot contain null bytes"),
    ],
)
def test_decoding(raw: bytes, source: str, unreadable: str) -> None:
    """Every database can store what comes out; what cannot be read has a reason."""
    assert decode(raw) == (source, unreadable)


def test_the_library_is_there() -> None:
    """There is enough to do on every machine, and none of it is somebody else's."""
    found = list(files())
    assert len(found) > 500
    assert not any("site-packages" in path.parts for path in found)


def test_treemap_covers_its_area() -> None:
    """The boxes fill the picture, each by its share."""
    tiles = [Tile(f"package{lines}", lines, lines % 7, 1) for lines in (900, 500, 90, 30, 20, 7, 1)]
    boxes = treemap(tiles)
    for box in boxes:
        share = box.tile.lines / sum(tile.lines for tile in tiles)
        assert box.width * box.height == pytest.approx(WIDTH * HEIGHT * share)
        assert -0.01 <= box.x <= box.x + box.width <= WIDTH + 0.01
        assert -0.01 <= box.y <= box.y + box.height <= HEIGHT + 0.01
    assert [box.tile for box in boxes] == tiles
