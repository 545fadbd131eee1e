"""Local web page for both applications: `canton.ui.app.serve`."""
