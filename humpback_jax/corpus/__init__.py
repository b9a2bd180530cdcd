"""Web pages to segments: archives, HTML and tables of pages in; sharded segments, duplicates and counts out.

The order of the work: `readers` (which files, records of an archive with damage included, record to page, bytes to
text), `content` (page to blocks, what of them is furniture, sections), `filters` (which sections are kept),
`page_segments` (where these meet), `pipeline` (what needs the whole corpus, on one machine or on Beam) and `build` (the
stage).
"""
