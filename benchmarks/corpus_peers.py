"""One side of benchmarks/corpus.py, run in a process of its own, by any Python: `corpus_peers.py SIDE INPUT OUT`.

INPUT is a file of decoded pages, JSON lines with `url` and `html`; for datatrove, which reads for itself, a folder of
archives. The texts go to OUT, JSON lines with `url` and `text`; the last printed line says how long it took. Imports
and the first page, on which libraries load what they need, are not counted.
"""

import json
import sys
import time

FIRST_PAGE = "<html><body><h1>Tides</h1><p>" + "The Moon pulls on the ocean. " * 40 + "</p></body></html>"


def _trafilatura():
    """Whole pages by trafilatura's defaults, without comments, as its users extract a corpus."""
    import trafilatura

    return lambda html: trafilatura.extract(html, include_comments=False)


def _trafilatura_precision():
    import trafilatura

    return lambda html: trafilatura.extract(html, include_comments=False, favor_precision=True)


def _resiliparse():
    """A parser in C++ and a small set of rules: about the least that reading a page can take."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    return lambda html: extract_plain_text(HTMLTree.parse(html), main_content=True)


EXTRACTORS = {
    "trafilatura": _trafilatura,
    "trafilatura_precision": _trafilatura_precision,
    "resiliparse": _resiliparse,
}


def extract_pages(name, path):
    """(seconds, pages, texts by URL) of an extractor over decoded pages; the loop alone is timed."""
    extract = EXTRACTORS[name]()
    with open(path, encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    extract(FIRST_PAGE)
    texts = {}
    started = time.perf_counter(), time.process_time()
    for page in pages:
        texts[page["url"]] = extract(page["html"]) or ""
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    return seconds, len(pages), texts


def run_datatrove(folder):
    """The same of datatrove's WARC reader and Trafilatura extractor, which runs in a process of its own.

    Its precision mode and its limit of a second a page are its defaults.
    """
    import resource

    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from loguru import logger

    logger.remove()
    reader, extractor, texts = WarcReader(folder), Trafilatura(), {}
    before = sum(_cpu_seconds(resource.getrusage(who)) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    started = time.perf_counter()
    for document in extractor.run(reader.run()):
        texts[document.metadata["url"]] = document.text
    wall = time.perf_counter() - started
    after = sum(_cpu_seconds(resource.getrusage(who)) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (wall, after - before), extractor.stats["total"].total, texts


def _cpu_seconds(usage):
    return usage.ru_utime + usage.ru_stime


def main():
    side, source, out = sys.argv[1:]
    (wall, cpu), pages, texts = run_datatrove(source) if side == "datatrove" else extract_pages(side, source)
    with open(out, "w", encoding="utf-8", errors="replace") as stream:
        stream.writelines(json.dumps({"url": url, "text": text}) + "\n" for url, text in texts.items())
    print(json.dumps({"pages": pages, "wall_seconds": wall, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
