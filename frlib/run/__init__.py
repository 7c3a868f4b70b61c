"""From settings to result files: what runs, keeps and judges the science of frlib."""
