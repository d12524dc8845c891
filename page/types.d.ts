// What the gateway sends; the comments name the routes.

/** /page/config.json */
export interface Config {
  task: { name: string; classes: string[]; geometry: Geometry };
  default_version: string;
  keys: boolean;
  explain: boolean;
  mistakes: boolean;
  prepare: string;
  modes: string[];
  limits: { max_body_bytes: number; max_pixels: number; max_images: number };
  predict: string;
  samples: { label: string; url: string }[];
}

export interface Geometry {
  channels: number;
  height: number;
  width: number;
}

/** One element of "predictions" in the answer of a prediction. */
export interface Prediction {
  label: string;
  index: number;
  probabilities: Record<string, number>;
  unknown?: boolean;
  unknown_score?: number;
  adjusted?: string[];
}

export interface Layer {
  name: string;
  shape: number[];
  values: number[];
}

export interface Step {
  step: string;
  width: number;
  height: number;
  png: string;
}

/** POST /explain */
export interface Explanation {
  model_version: string;
  prediction: Prediction;
  adjusted: string[];
  input: { shape: number[]; values: number[] };
  layers: Layer[];
  occlusion?: { window: number; stride: number; shape: number[]; values: number[] };
  preparation?: Step[];
}

export interface Argument {
  layer: string;
  parameter: string;
  argument: string;
  kind: string;
  why: string;
}

export interface LayerDescription {
  name: string;
  kind: "normalized" | "conv" | "activation" | "pool" | "flatten" | "linear" | "probabilities";
  shape: number[];
  from: string;
  weight?: string;
  bias?: string;
}

/** /network.json */
export interface NetworkFile {
  model_version: string;
  classes: string[];
  geometry: Geometry;
  activation: string;
  pool: number;
  gamma: number;
  mean: number;
  std: number;
  temperature: number;
  views: string;
  description: {
    arguments: Argument[];
    steps: { step: string; shape: number[] }[];
    parameters: { name: string; shape: number[]; count: number }[];
    total: number;
  };
  layers: LayerDescription[];
  weights: Record<string, { shape: number[]; values: string }>;
}

/** /network.json with its weights decoded. */
export interface Network extends Omit<NetworkFile, "weights"> {
  weights: Record<string, { shape: number[]; values: Float32Array }>;
}

/** /mistakes.json */
export interface Mistakes {
  model_version: string;
  classes: string[];
  images: number;
  matrix: number[][];
  sprite: { url: string; tile: { width: number; height: number }; columns: number; tiles: number };
  cells: number[][][];
  tiles: { image: number; label: number; answered: number; probability: number }[];
}

/** /status.json */
export interface Status {
  ready: boolean;
  keys: boolean;
  reason?: string;
  default_version?: string;
  versions?: { version: string; default: boolean; ready: boolean; accuracy: number | null }[];
  traffic?: { window_s: number; requests_per_s: number; p50_ms: number | null; p99_ms: number | null };
  drift?: {
    images: number;
    window: number;
    figures: { name: string; value: number | null; threshold: number }[];
  } | null;
}

/** A picture that was put in, by whichever way. */
export interface Source {
  name: string;
  body: Blob;
  /** Raw pixels of the network's own size go past preparation. */
  raw: boolean;
  origin: "file" | "sample" | "camera" | "drawing" | "mistake";
}

/** What a prediction answered, as the page holds it. */
export interface Answer {
  source: Source;
  prediction: Prediction;
  version: string;
  /** Server-Timing and what the browser waited, in milliseconds; null where the answer carries none. */
  timing: { name: string; ms: number }[];
  total_ms: number;
}

/** A cell of a layer: which map, and where in it. */
export interface Cell {
  map: number;
  row: number;
  column: number;
}
