"""From result files to pages: tables, figures and verdicts. It never trains."""
