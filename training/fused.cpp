// Both convolutions, each with its max-pooling and ReLU, forward and backward, for one thread.
//
// PyTorch runs these as six operations over the whole batch, each through memory. Here an image stays in the first-level
// cache from its pixels to its features, an output row lies in vector registers while it is summed, and backward only
// visits what has a gradient: one of four outputs of a convolution, the one that won its pooling window, if it is
// positive. Planes are stored one after another, row by row, as in PyTorch's contiguous format.
//
// Compiled with -DCONV1_OUT=... and -DCONV2_OUT=..., both multiples of 6.

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

constexpr int KERNEL = 5, POOL = 2, LANES = 8;
constexpr int SIDE = 28, CHANNELS1 = CONV1_OUT, CHANNELS2 = CONV2_OUT;
constexpr int MAP1 = (SIDE - KERNEL + 1) / POOL, MAP2 = (MAP1 - KERNEL + 1) / POOL;
constexpr int PIXELS = SIDE * SIDE, MAPS1 = CHANNELS1 * MAP1 * MAP1, FEATURES = CHANNELS2 * MAP2 * MAP2;
constexpr int TAPS = KERNEL * KERNEL;
constexpr int GROUP = 6;  // output channels summed at once: 2 rows x 6 channels fill 12 of 16 vector registers
constexpr int WINDOW = KERNEL + POOL - 1;  // side of what a pooling window's outputs see

using Floats = float __attribute__((vector_size(LANES * sizeof(float))));
using Ints = int32_t __attribute__((vector_size(LANES * sizeof(int32_t))));

inline Floats load(const float* from) {
    Floats vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

inline void add(float* to, Floats vector) {
    vector += load(to);
    std::memcpy(to, &vector, sizeof vector);
}

// Rows are read a whole vector at a time, beyond their end: into the next row, and after the last into this margin.
constexpr int MARGIN = LANES;

struct Pixels {
    float values[PIXELS + MARGIN];
};

// weights[out][in][tap] -> [group][in][tap][out within the group], in the order in which `convolve` reads them.
template <int IN, int OUT>
void regroup(const float* weights, float* grouped) {
    for (int group = 0; group < OUT / GROUP; ++group)
        for (int in = 0; in < IN; ++in)
            for (int tap = 0; tap < TAPS; ++tap)
                for (int out = 0; out < GROUP; ++out)
                    *grouped++ = weights[((group * GROUP + out) * IN + in) * TAPS + tap];
}

// Convolution, pooling, ReLU: planes[IN][MAP_IN][MAP_IN] -> maps[OUT][MAP][MAP], and which of each window's four
// outputs, 2 * row + column, was the largest.
template <int IN, int OUT, int MAP_IN>
void convolve(const float* planes, const float* grouped, const float* bias, float* maps, int8_t* winners) {
    constexpr int MAP = (MAP_IN - KERNEL + 1) / POOL;
    static_assert(OUT % GROUP == 0 && MAP * POOL % LANES == 0);
    for (int group = 0; group < OUT / GROUP; ++group)
        for (int row = 0; row < MAP; ++row)
            for (int column = 0; column < MAP * POOL; column += LANES) {
                Floats upper[GROUP], lower[GROUP];
                for (int out = 0; out < GROUP; ++out) upper[out] = lower[out] = Floats{} + bias[group * GROUP + out];
                const float* weight = grouped + group * IN * TAPS * GROUP;
                for (int in = 0; in < IN; ++in)
                    for (int y = 0; y < KERNEL; ++y) {
                        const float* from = planes + (in * MAP_IN + POOL * row + y) * MAP_IN + column;
#pragma GCC unroll 5
                        for (int x = 0; x < KERNEL; ++x, weight += GROUP) {
                            const Floats one = load(from + x), next = load(from + MAP_IN + x);
#pragma GCC unroll 6
                            for (int out = 0; out < GROUP; ++out) {
                                upper[out] += one * weight[out];
                                lower[out] += next * weight[out];
                            }
                        }
                    }
#pragma GCC unroll 6
                for (int out = 0; out < GROUP; ++out) {
                    const Ints below = lower[out] > upper[out];
                    const Floats larger = below ? lower[out] : upper[out];
                    const Ints place = below & 2;
                    const Floats even = __builtin_shufflevector(larger, larger, 0, 2, 4, 6, 0, 2, 4, 6);
                    const Floats odd = __builtin_shufflevector(larger, larger, 1, 3, 5, 7, 1, 3, 5, 7);
                    const Ints even_place = __builtin_shufflevector(place, place, 0, 2, 4, 6, 0, 2, 4, 6);
                    const Ints odd_place = __builtin_shufflevector(place, place, 1, 3, 5, 7, 1, 3, 5, 7) + 1;
                    const Ints right = odd > even;
                    Floats largest = right ? odd : even;
                    largest = largest <= 0.0f ? Floats{} : largest;
                    const Ints winner = right ? odd_place : even_place;
                    const int to = ((group * GROUP + out) * MAP + row) * MAP + column / POOL;
                    std::memcpy(maps + to, &largest, LANES / POOL * sizeof(float));
                    for (int lane = 0; lane < LANES / POOL; ++lane) winners[to + lane] = int8_t(winner[lane]);
                }
            }
}

// An image as the network takes it: normalised by `levels`, the value of each of 256 greys, mirrored if asked, moved by
// (down, right), black moving in.
void prepare(const uint8_t* image, bool mirrored, int down, int right, const float* levels, Pixels& pixels) {
    std::fill(pixels.values, pixels.values + PIXELS + MARGIN, levels[0]);
    for (int y = std::max(0, down); y < std::min(SIDE, SIDE + down); ++y) {
        const uint8_t* from = image + (y - down) * SIDE;
        float* to = pixels.values + y * SIDE;
        const int first = std::max(0, right), last = std::min(SIDE, SIDE + right);
        if (mirrored)
            for (int x = first; x < last; ++x) to[x] = levels[from[SIDE - 1 - (x - right)]];
        else
            for (int x = first; x < last; ++x) to[x] = levels[from[x - right]];
    }
}

// Gradient of a convolution's weights and bias from the gradient of its pooled maps, summed into `weights`
// [OUT][IN][KERNEL][LANES], of which each row's first KERNEL values count, and `bias` [OUT].
template <int IN, int OUT, int MAP_IN>
void weight_gradient(const float* planes, const float* gradient, const int8_t* winners, float* weights, float* bias) {
    constexpr int MAP = (MAP_IN - KERNEL + 1) / POOL, WINDOWS = MAP * MAP;
    for (int out = 0; out < OUT; ++out) {
        int count = 0, places[WINDOWS];
        float values[WINDOWS], sum = 0;
        for (int window = 0; window < WINDOWS; ++window) {
            const int winner = winners[out * WINDOWS + window];
            const float value = gradient[out * WINDOWS + window];
            places[count] =
                (POOL * (window / MAP) + (winner >> 1)) * MAP_IN + POOL * (window % MAP) + (winner & 1);
            values[count] = value;
            sum += value;
            count += value != 0;
        }
        bias[out] += sum;
        for (int in = 0; in < IN; ++in) {
            Floats rows[KERNEL] = {};
            const float* plane = planes + in * MAP_IN * MAP_IN;
            for (int index = 0; index < count; ++index) {
#pragma GCC unroll 5
                for (int y = 0; y < KERNEL; ++y) rows[y] += load(plane + places[index] + y * MAP_IN) * values[index];
            }
            for (int y = 0; y < KERNEL; ++y) add(weights + ((out * IN + in) * KERNEL + y) * LANES, rows[y]);
        }
    }
}

// conv2's weights with a row of zeros above and below, once at the left of a vector and once moved by one: the row that
// a winner at (row, column) of its window adds to row r of what the window sees is [column][out][in][1 + r - row].
constexpr int PADDED_ROWS = KERNEL + 2;
using PaddedWeights = float[POOL][CHANNELS2][CHANNELS1][PADDED_ROWS][LANES];

void pad(const float* weights, PaddedWeights& padded) {
    std::memset(padded, 0, sizeof padded);
    for (int column = 0; column < POOL; ++column)
        for (int out = 0; out < CHANNELS2; ++out)
            for (int in = 0; in < CHANNELS1; ++in)
                for (int y = 0; y < KERNEL; ++y)
                    std::memcpy(padded[column][out][in][1 + y] + column,
                                weights + ((out * CHANNELS1 + in) * KERNEL + y) * KERNEL, KERNEL * sizeof(float));
}

// Gradient of conv2's input, [CHANNELS1][MAP1][MAP1] and a margin, from that of its pooled maps.
void input_gradient(const float* gradient, const int8_t* winners, const PaddedWeights& padded, float* planes) {
    std::fill(planes, planes + MAPS1 + MARGIN, 0.0f);
    for (int window = 0; window < MAP2 * MAP2; ++window) {
        int count = 0;
        const float* rows_of[CHANNELS2];
        float values[CHANNELS2];
        for (int out = 0; out < CHANNELS2; ++out) {
            const int winner = winners[out * MAP2 * MAP2 + window];
            values[count] = gradient[out * MAP2 * MAP2 + window];
            rows_of[count] = padded[winner & 1][out][0][1 - (winner >> 1)];
            count += values[count] != 0;
        }
        float* corner = planes + POOL * (window / MAP2) * MAP1 + POOL * (window % MAP2);
        for (int in = 0; in < CHANNELS1; ++in) {
            Floats rows[WINDOW] = {};
            for (int index = 0; index < count; ++index) {
                const float* weights = rows_of[index] + in * PADDED_ROWS * LANES;
#pragma GCC unroll 6
                for (int y = 0; y < WINDOW; ++y) rows[y] += load(weights + y * LANES) * values[index];
            }
            for (int y = 0; y < WINDOW; ++y) add(corner + (in * MAP1 + y) * MAP1, rows[y]);
        }
    }
}

template <int IN, int OUT>
void unpad(const float* rows, float* weights) {
    for (int row = 0; row < OUT * IN * KERNEL; ++row)
        std::memcpy(weights + row * KERNEL, rows + row * LANES, KERNEL * sizeof(float));
}

}  // namespace

extern "C" {

// Features [count][FEATURES] of images chosen[i] of `images`, each moved by moves[i] = (mirrored, down, right); kept for
// backward: maps1 [count][MAPS1], winners1 [count][MAPS1], winners2 [count][FEATURES].
void forward(const uint8_t* images, const int64_t* chosen, const int8_t* moves, int64_t count,
             const float* levels, const float* weight1, const float* bias1, const float* weight2, const float* bias2,
             float* features, float* maps1, int8_t* winners1, int8_t* winners2) {
    float grouped1[CHANNELS1 * TAPS], grouped2[CHANNELS2 * CHANNELS1 * TAPS];
    regroup<1, CHANNELS1>(weight1, grouped1);
    regroup<CHANNELS1, CHANNELS2>(weight2, grouped2);
    Pixels pixels;
    for (int64_t i = 0; i < count; ++i) {
        prepare(images + chosen[i] * PIXELS, moves[3 * i], moves[3 * i + 1], moves[3 * i + 2], levels, pixels);
        float* map = maps1 + i * MAPS1;
        convolve<1, CHANNELS1, SIDE>(pixels.values, grouped1, bias1, map, winners1 + i * MAPS1);
        convolve<CHANNELS1, CHANNELS2, MAP1>(map, grouped2, bias2, features + i * FEATURES, winners2 + i * FEATURES);
    }
}

// Gradients of both convolutions' weights and biases, from that of the features and from what `forward` kept.
void backward(const uint8_t* images, const int64_t* chosen, const int8_t* moves, int64_t count,
              const float* levels, const float* weight2, const float* features, const float* maps1, const int8_t* winners1,
              const int8_t* winners2, const float* features_gradient, float* weight1_gradient, float* bias1_gradient,
              float* weight2_gradient, float* bias2_gradient) {
    PaddedWeights padded;
    pad(weight2, padded);
    float rows1[CHANNELS1 * KERNEL * LANES] = {}, rows2[CHANNELS2 * CHANNELS1 * KERNEL * LANES] = {};
    std::fill(bias1_gradient, bias1_gradient + CHANNELS1, 0.0f);
    std::fill(bias2_gradient, bias2_gradient + CHANNELS2, 0.0f);
    Pixels pixels;
    float map[MAPS1 + MARGIN] = {}, map_gradient[MAPS1 + MARGIN], gradient[FEATURES];
    for (int64_t i = 0; i < count; ++i) {
        prepare(images + chosen[i] * PIXELS, moves[3 * i], moves[3 * i + 1], moves[3 * i + 2], levels, pixels);
        std::copy(maps1 + i * MAPS1, maps1 + (i + 1) * MAPS1, map);
        for (int feature = 0; feature < FEATURES; ++feature)
            gradient[feature] = features[i * FEATURES + feature] > 0 ? features_gradient[i * FEATURES + feature] : 0;
        weight_gradient<CHANNELS1, CHANNELS2, MAP1>(map, gradient, winners2 + i * FEATURES, rows2, bias2_gradient);
        input_gradient(gradient, winners2 + i * FEATURES, padded, map_gradient);
        for (int place = 0; place < MAPS1; ++place) map_gradient[place] = map[place] > 0 ? map_gradient[place] : 0;
        weight_gradient<1, CHANNELS1, SIDE>(pixels.values, map_gradient, winners1 + i * MAPS1, rows1, bias1_gradient);
    }
    unpad<1, CHANNELS1>(rows1, weight1_gradient);
    unpad<CHANNELS1, CHANNELS2>(rows2, weight2_gradient);
}
}
