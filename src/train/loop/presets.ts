/** Sizes and steps that go together. */
export const presets = {
  /** Some minutes on two cores: to see that a corpus and the settings are sound. */
  tiny: {
    vocabSize: 2048,
    hiddenSize: 128,
    layers: 4,
    heads: 4,
    contextLength: 128,
    batchSize: 16,
    steps: 1000,
    learningRate: 2e-3,
    validateEvery: 100,
    sampleEvery: 250,
    checkpointEvery: 250,
  },
  /** Some hours on two cores: a model that writes sentences. */
  small: {
    vocabSize: 4096,
    hiddenSize: 256,
    layers: 6,
    heads: 4,
    contextLength: 256,
    batchSize: 16,
    steps: 5000,
    learningRate: 1e-3,
    validateEvery: 250,
    sampleEvery: 500,
    checkpointEvery: 250,
  },
} as const;

export type PresetName = keyof typeof presets;
