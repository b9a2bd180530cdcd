"""Web pages to segments: WARC, WET and HTML files in, sharded segments and `corpus_report.json` out.

The order of the work: `readers` (which files, records of an archive with damage included, record to page, bytes to
text), `html` (page to text blocks and header sections), `filters` (which sections
are kept) and `build` (the stage).
"""
