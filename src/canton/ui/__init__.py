"""One local page for both applications; `canton.ui.app.serve` opens it."""
