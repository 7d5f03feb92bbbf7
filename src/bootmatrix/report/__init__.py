"""Reports of a run: report.html, junit.xml, run.json and a page for each cell."""

REPORT_FILE = "report.html"
JUNIT_FILE = "junit.xml"
