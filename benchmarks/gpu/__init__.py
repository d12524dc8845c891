"""What this project does on a GPU: checked, measured, or in a dry run on the CPU. docs/how-to/gpu.md."""
