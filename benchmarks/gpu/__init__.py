"""What this project does on a GPU: checked and measured, or gone through on the CPU in a dry run. docs/gpu.md."""
