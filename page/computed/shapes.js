// What follows from a network's arguments: shapes, data-dependent hyperparameters, counts of parameters.

/** @import { Argument, NetworkFile } from "../types.d.ts" */

/**
 * @typedef {object} Row an argument of a layer, as the table shows it
 * @property {string} layer
 * @property {string} parameter
 * @property {string} argument
 * @property {boolean} chosen whether it is a hyperparameter, which a person chooses
 * @property {string} why
 *
 * @typedef {object} Derived
 * @property {Row[]} rows
 * @property {{step: string, shape: number[]}[]} steps
 * @property {{name: string, shape: number[], count: number}[]} parameters
 * @property {number} total
 * @property {string} problem why there can be no such network; "" where there can
 */

/** The most that may be typed into a field: more is a slip, and no such network would be trained. */
export const MOST = 4096;

/**
 * A copy's arguments, by "layer.parameter": those that a person chooses.
 * @param {Argument[]} described
 * @returns {Record<string, number>}
 */
export function chosenOf(described) {
  const chosen = described.filter(({ kind }) => kind === "hyperparameter");
  return Object.fromEntries(chosen.map((row) => [`${row.layer}.${row.parameter}`, Number(row.argument)]));
}

/**
 * Derive all that follows from the chosen arguments, as the network's constructor does.
 * @param {Pick<NetworkFile, "geometry" | "pool" | "classes" | "description">} network
 * @param {Record<string, number>} chosen
 * @returns {Derived}
 */
export function deriveShapes(network, chosen) {
  const names = [...new Set(network.description.arguments.map(({ layer }) => layer))];
  const kinds = new Map(names.map((name) => [name, kindOf(network.description.arguments, name)]));
  const steps = [{ step: "images", shape: [network.geometry.channels, network.geometry.height, network.geometry.width] }];
  /** @type {Derived["parameters"]} */
  const parameters = [];
  /** @type {Map<string, string>} */
  const derived = new Map();
  const done = (/** @type {string} */ problem) => ({
    rows: rowsOf(network.description.arguments, chosen, derived),
    steps,
    parameters,
    total: parameters.reduce((sum, { count }) => sum + count, 0),
    problem,
  });
  let shape = steps[0].shape;
  let linear = 0;
  for (const name of names) {
    const problem = checked(chosen, name);
    if (problem) return done(problem);
    if (kinds.get(name) === "conv") {
      const size = chosen[`${name}.kernel_size`];
      const out = chosen[`${name}.out_channels`];
      derived.set(`${name}.in_channels`, String(shape[0]));
      const [height, width] = shape.slice(1).map((side) => side - size + 1);
      if (Math.min(height, width) < network.pool) {
        const left = height < 1 || width < 1 ? "nothing is left" : `${height} × ${width} is left`;
        return done(
          `${name} takes ${shape[1]} × ${shape[2]}: with ${size} × ${size} kernels ${left}, and pooling needs ` +
            `${network.pool} × ${network.pool}. Choose a smaller kernel_size.`,
        );
      }
      add(parameters, name, [out, shape[0], size, size]);
      shape = [out, Math.floor(height / network.pool), Math.floor(width / network.pool)];
      steps.push({ step: name, shape: [out, height, width] }, { step: "activation", shape: [out, height, width] });
      steps.push({ step: "pool", shape });
    } else {
      if (!linear++) {
        derived.set(`${name}.in_features`, shape.join("*"));
        shape = [shape.reduce((product, side) => product * side)];
        steps.push({ step: "flatten", shape });
      } else {
        derived.set(`${name}.in_features`, String(shape[0]));
      }
      const last = name === names[names.length - 1];
      if (last) derived.set(`${name}.out_features`, String(network.classes.length));
      const out = last ? network.classes.length : chosen[`${name}.out_features`];
      add(parameters, name, [out, shape[0]]);
      shape = [out];
      steps.push({ step: name, shape });
      if (!last) steps.push({ step: "activation", shape });
    }
  }
  return done("");
}

/**
 * @param {Argument[]} described
 * @param {string} name
 */
function kindOf(described, name) {
  return described.some(({ layer, parameter }) => layer === name && parameter === "kernel_size") ? "conv" : "linear";
}

/**
 * Why a layer's chosen arguments cannot be used; "" where they can.
 * @param {Record<string, number>} chosen
 * @param {string} layer
 */
function checked(chosen, layer) {
  for (const [name, value] of Object.entries(chosen)) {
    if (name.startsWith(`${layer}.`) && !(Number.isInteger(value) && value >= 1 && value <= MOST)) {
      return `${name} takes a whole number from 1 to ${MOST.toLocaleString("en")}.`;
    }
  }
  return "";
}

/**
 * @param {Derived["parameters"]} parameters
 * @param {string} name
 * @param {number[]} shape of the weight; the first is that of the bias
 */
function add(parameters, name, shape) {
  parameters.push({ name: `${name}.weight`, shape, count: shape.reduce((product, side) => product * side) });
  parameters.push({ name: `${name}.bias`, shape: [shape[0]], count: shape[0] });
}

/**
 * @param {Argument[]} described
 * @param {Record<string, number>} chosen
 * @param {Map<string, string>} derived
 * @returns {Row[]}
 */
function rowsOf(described, chosen, derived) {
  return described.map(({ layer, parameter, kind, why }) => {
    const name = `${layer}.${parameter}`;
    const isChosen = kind === "hyperparameter";
    // What comes after the layer that cannot be has no value.
    const argument = isChosen ? String(chosen[name]) : (derived.get(name) ?? "–");
    return { layer, parameter, argument, chosen: isChosen, why };
  });
}
