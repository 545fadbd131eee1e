"""One local page for both applications; `canton.ui.page.serve` opens it."""
