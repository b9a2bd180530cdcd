"""Pages to segments at any size: what happens per file, what needs the whole corpus, and the two engines that do it."""
