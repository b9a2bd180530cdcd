"""Web pages to segments: WARC, WET and HTML files in, sharded segments and `corpus_report.json` out.

The order of the work, one file each: `inputs` (which files), `warc` (records of an archive, damage included), `pages`
(record to page), `charset` (bytes to text), `html` (page to text blocks and header sections), `filters` (which sections
are kept) and `build` (the stage).
"""
