"""What is full, and what the processes take."""

from typing import Final

from deploy.monitoring.dashboards.panels import Dashboard, Panel
from deploy.monitoring.dashboards.promql import (
    BATCH_IMAGES,
    CPU_SECONDS,
    JVM,
    PROCESSES,
    STAGE_SECONDS,
    TORCHSERVE,
    WORKER,
    buckets,
    by,
    mean,
    quantile,
    rate,
    rates_by,
    selected,
)

RESOURCES: Final = Dashboard(
    "resources",
    "Fashion-MNIST: resources",
    "What is full, and what the processes take: the line, the processor, memory, TorchServe, its JVM, the GPU.",
    {
        "The line": [
            Panel(
                "Images in line",
                "Images that wait for the engine; a gateway refuses more than 4,096.",
                "none",
                [by("instance", "serving_queued_images")],
            ),
            Panel(
                "Bytes in line",
                "Bytes of bodies that are received or wait; a gateway refuses more than 160 MiB.",
                "bytes",
                [by("instance", "serving_buffered_bytes")],
            ),
            Panel(
                "Time in line",
                "How long requests wait for the engine.",
                "s",
                [quantile(share, STAGE_SECONDS, 'stage="queue"') for share in (0.5, 0.99)],
            ),
            Panel(
                "Batch size", "How many batches had how many images.", "none", [buckets(BATCH_IMAGES)], "heatmap", 12
            ),
            Panel(
                "Mean batch",
                "Images of a batch: the more, the busier the engine.",
                "none",
                [(mean(BATCH_IMAGES), "images")],
                width=12,
            ),
        ],
        "Processes": [
            Panel(
                "Processor",
                "Cores that processes of each kind use.",
                "none",
                [rates_by("process", CPU_SECONDS)],
                stacked=True,
            ),
            Panel(
                "Memory",
                "Resident memory; pages that processes share are counted by each.",
                "bytes",
                [by("process", "serving_process_resident_bytes")],
            ),
            Panel(
                "Starts",
                "Processes that were started within 15 minutes: one more than there are is a restart.",
                "none",
                [
                    (
                        f"sum by (process) (increase({selected('serving_process_starts_total')}[15m]))",
                        "{{process}}",
                    )
                ],
            ),
            Panel("Processes", "How many there are of each kind.", "none", [by("process", PROCESSES)]),
            Panel(
                "Threads",
                "Threads of all processes of a kind.",
                "none",
                [by("process", "serving_process_threads")],
            ),
            Panel(
                "Open files",
                "Open files; each connection is one.",
                "none",
                [by("process", "serving_process_open_files")],
            ),
        ],
        "TorchServe's workers": [
            Panel("Workers", "Worker processes that run.", "none", [by("instance", PROCESSES, WORKER)]),
            Panel(
                "Batches",
                "Batches that TorchServe was sent, by version of the model.",
                "ops",
                [rates_by("version", f"{TORCHSERVE}_batches_total")],
            ),
            Panel(
                "Answers",
                "TorchServe's answers by their status; anything but 2xx fails a batch.",
                "reqps",
                [rates_by("status", f"{TORCHSERVE}_answers_total")],
            ),
            Panel(
                "Images",
                "Images that the workers answered.",
                "ops",
                [
                    (rate(f"{TORCHSERVE}_images_total"), "predicted"),
                    (rate(f"{TORCHSERVE}_refused_images_total"), "refused"),
                ],
            ),
            Panel(
                "Time of a batch",
                "The mean time of a batch in TorchServe, and what it waited there for a worker.",
                "s",
                [
                    (f"{rate(f'{TORCHSERVE}_{part}_total')} / {rate(f'{TORCHSERVE}_batches_total')}", legend)
                    for part, legend in (("seconds", "whole"), ("queue_seconds", "waited"))
                ],
            ),
            Panel(
                "Worker's processor",
                "Cores that a worker uses in the mean; 1 is one thread that never rests.",
                "none",
                [(f"{rate(CPU_SECONDS, WORKER)} / sum({selected(PROCESSES, WORKER)})", "a worker")],
            ),
        ],
        "TorchServe's JVM": [
            Panel(
                "Heap",
                "In use after the last garbage collection, the heap's size then, and the most that it may become.",
                "bytes",
                [
                    (by("version", f"{JVM}_heap{part}_bytes")[0], f"{legend}, {{{{version}}}}")
                    for part, legend in (("", "in use"), ("_capacity", "size"), ("_limit", "limit"))
                ],
            ),
            Panel(
                "Garbage collections",
                "How often the JVM stands still.",
                "ops",
                [rates_by("version", f"{JVM}_gc_pauses_total")],
            ),
            Panel(
                "Time of collections",
                "The share of its time in which the JVM stands still.",
                "percentunit",
                [rates_by("version", f"{JVM}_gc_pause_seconds_total")],
            ),
        ],
        "GPU": [
            Panel(
                "GPU",
                "How busy the GPUs are, by NVIDIA's exporter. Empty without a GPU.",
                "percent",
                [("DCGM_FI_DEV_GPU_UTIL", "{{gpu}}")],
                width=12,
            ),
            Panel(
                "GPU memory",
                "Frame buffer in use, in MiB. Empty without a GPU.",
                "mbytes",
                [("DCGM_FI_DEV_FB_USED", "{{gpu}}")],
                width=12,
            ),
        ],
    },
)
