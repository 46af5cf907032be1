// Masked convolutions and linear layers as lists of survivors.
//
// Output channel o reads input channel c at a shifted pixel (h + sh, w + sw), which is one float
// offset into the padded input; a linear layer is a convolution of 1x1 maps. Stride s is the same
// thing on an input split into its s x s phase planes, groups only change which entries exist. The
// gradient of the input is the same kernel on the transposed list. Pruned weights are nowhere.
#pragma once
#include <vector>
#include "maps.h"

// Survivors sorted by (block of input channels, output channel, kernel row): entries
// start[(block * outputs.count + j) * rows + r] up to the next feed output channel
// outputs.index[j] from input row h + first_row + r. A block's rows fit the L1 cache.
struct Survivors {
  Channels outputs;
  const int32_t *start, *offset;
  int64_t count, blocks, rows, first_row, input_height;
};

struct Convolution {
  Survivors list;
  Map in, out;
  const float* weight;          // in the order of the list
  const float* initial;         // what each output channel starts from (bias); null: 0
  Partial statistics;           // [C][2] sums of z and z^2 for batch norm
  int64_t accumulate;           // 1: add to what `out` holds
  int64_t height, row, channels;  // output rows, floats in each (width * n), output channels
};

// R vectors of one output row stay in registers while the list runs. Short rows run U survivors
// side by side to hide the latency of the multiply-adds.
template <int R>
static inline __attribute__((always_inline)) void accumulate_tile(
    const float* x, const int32_t* offset, const float* weight, int64_t count, v8 (&a)[R]) {
  constexpr int U = R >= 8 ? 1 : 8 / R;
  int64_t i = 0;
  if (U > 1 && count >= U) {
    v8 t[U][R] = {};
    for (; i + U <= count; i += U)
#pragma GCC unroll 8
      for (int u = 0; u < U; u++)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
          t[u][r] = mad(load(x + offset[i + u] + 8 * r), weight[i + u], t[u][r]);
#pragma GCC unroll 8
    for (int u = 0; u < U; u++)
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) a[r] += t[u][r];
  }
  for (; i < count; i++) {
    const float* p = x + offset[i];
    const v8 s = splat(weight[i]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) a[r] = mad(load(p + 8 * r), s, a[r]);
  }
}

// Kernel rows of the list that fall inside the input for output row h.
struct Rows { int64_t low, high; };

static inline Rows inside(const Survivors& l, int64_t h) {
  Rows r = {0, l.rows};
  if (l.rows == 1) return r;
  const int64_t first = h + l.first_row;
  if (first < 0) r.low = -first;
  if (first + r.high > l.input_height) r.high = l.input_height - first;
  if (r.high < r.low) r.high = r.low;
  return r;
}

// Adds z and z^2 of R vectors to the 16 floats that a channel's sums are kept in.
template <int R> static inline void add_squares(const v8 (&z)[R], float* sums) {
  v8 s = z[0], q = z[0] * z[0];
  for (int r = 1; r < R; r++) {
    s += z[r];
    q = mad(z[r], z[r], q);
  }
  store(sums, load(sums) + s);
  store(sums + LANES, load(sums + LANES) + q);
}

// One tile of R vectors of output row h, all output channels. `sums`, where given, holds 16 floats
// per channel: sums of z and of z^2 while the values are in registers.
template <int R>
static void convolve_tile(const Convolution& c, const float* in, float* out, Rows rows,
                          float* sums) {
  const Survivors& l = c.list;
  for (int64_t block = 0; block < l.blocks; block++) {
    const bool first = block == 0 && !c.accumulate, last = block + 1 == l.blocks;
    for (int64_t j = 0; j < l.outputs.count; j++) {
      const int32_t* e = l.start + (block * l.outputs.count + j) * l.rows;
      const int64_t from = e[rows.low], count = e[rows.high] - from, o = l.outputs.index[j];
      if (count == 0 && !first && !(last && sums)) continue;
      float* y = out + o * c.out.channel_stride;
      v8 a[R];
      if (first) {
        const v8 s = splat(c.initial ? c.initial[o] : 0.f);
        for (int r = 0; r < R; r++) a[r] = s;
      } else {
        for (int r = 0; r < R; r++) a[r] = load(y + 8 * r);
      }
      accumulate_tile<R>(in, l.offset + from, c.weight + from, count, a);
      for (int r = 0; r < R; r++) store(y + 8 * r, a[r]);
      if (last && sums) add_squares<R>(a, sums + 2 * LANES * o);
    }
  }
}

static void convolve_row(const Convolution& c, const float* x, float* y, int64_t h, float* sums) {
  const Rows rows = inside(c.list, h);
  int64_t k = 0;
  for (; k + 64 <= c.row; k += 64) convolve_tile<8>(c, x + k, y + k, rows, sums);
  for (; k + 32 <= c.row; k += 32) convolve_tile<4>(c, x + k, y + k, rows, sums);
  for (; k + 16 <= c.row; k += 16) convolve_tile<2>(c, x + k, y + k, rows, sums);
  for (; k < c.row; k += 8) convolve_tile<1>(c, x + k, y + k, rows, sums);
}

// Sums of z and z^2 over the first `valid` of the n images at `at`.
static void sum_statistics(const Map& z, Place at, int64_t channel, int64_t height, int64_t width,
                           int64_t valid, double* sums) {
  const int64_t n = z.n();
  const float* p = z.at(at, channel);
  for (int64_t k = 0; k < n; k += LANES) {
    const i8 lanes = first_lanes(valid - k);
    for (int64_t h = 0; h < height; h++) {
      v8 s{}, q{};
      for (int64_t w = 0; w < width; w++) {
        const v8 v = lanes ? load(p + h * z.row_stride + w * n + k) : v8{};
        s += v;
        q = mad(v, v, q);
      }
      sums[0] += sum(s);
      sums[1] += sum(q);
    }
  }
}

// Moves sums over some rows into double precision: many equal numbers added to a growing float are
// all rounded the same way.
static void flush(int64_t channels, float* sums, double* statistics) {
  for (int64_t c = 0; c < channels; c++, sums += 2 * LANES) {
    statistics[2 * c] += sum(load(sums));
    statistics[2 * c + 1] += sum(load(sums + LANES));
    store(sums, v8{});
    store(sums + LANES, v8{});
  }
}

// Calls f(input, output, h, sums) for each `rows` output rows, from row h, of a layer, sparse or
// dense. Where its statistics are wanted, f adds to `sums` (see add_squares), which else are null.
template <class Layer, class Rows>
static void each_rows(const Layer& c, const Batch& batch, Place at, int64_t rows, Rows f) {
  const int64_t n = c.out.n(), valid = batch.count - at.block - at.offset;
  const bool counted = c.statistics.p && batch.training, all = counted && valid >= n;
  const int64_t together = larger(rows, 1024 / c.row);
  std::vector<float> sums(all ? 2 * LANES * c.channels : 0);
  const float* in = c.in.at(at, 0);
  float* out = c.out.at(at, 0);
  double* statistics = c.statistics.of(at);
  for (int64_t h = 0, flushed = 0; h < c.height; h += rows) {
    f(in + h * c.in.row_stride, out + h * c.out.row_stride, h, all ? sums.data() : nullptr);
    if (!all || (h + rows < flushed + together && h + rows < c.height)) continue;
    flush(c.channels, sums.data(), statistics);
    flushed = h + rows;
  }
  if (counted && !all)  // the last block of a batch: count its images only
    for (int64_t o = 0; o < c.channels; o++)
      sum_statistics(c.out, at, o, c.height, c.row / n, valid, statistics + 2 * o);
}

static void convolve(const Convolution& c, const Batch& batch, Place at) {
  each_rows(c, batch, at, 1, [&](const float* x, float* y, int64_t h, float* sums) {
    convolve_row(c, x, y, h, sums);
  });
}

// ---- gradient of the survivors ------------------------------------------------------------------
// For each survivor, the product of an output-gradient plane with a shifted input plane. `pass`
// rows at a time, so that the input rows of a block of channels stay in the L1 cache.
struct WeightGradient {
  Survivors list;
  Map in, gz;
  float* sums;                  // [groups][stride] one float per survivor in the order of the list
  int64_t stride;               // with 8 to spare
  int64_t height, row, pass;    // output rows, floats in each, rows per pass
};

// G survivors share each load of the output gradient; U vectors of each run side by side.
template <int G, int U>
static inline __attribute__((always_inline)) void dot_rows(
    const float* g, int64_t g_stride, const float* x, int64_t x_stride, const int32_t* offset,
    int64_t rows, int64_t row, v8 (&s)[8]) {
  v8 a[G][U] = {};
  for (int64_t h = 0; h < rows; h++, g += g_stride, x += x_stride) {
    int64_t i = 0;
    for (; i + 8 * U <= row; i += 8 * U)
#pragma GCC unroll 8
      for (int u = 0; u < U; u++) {
        const v8 gradient = load(g + i + 8 * u);
#pragma GCC unroll 8
        for (int j = 0; j < G; j++)
          a[j][u] = mad(load(x + offset[j] + i + 8 * u), gradient, a[j][u]);
      }
    if (U > 1)
      for (; i < row; i += 8)
#pragma GCC unroll 8
        for (int j = 0; j < G; j++)
          a[j][0] = mad(load(x + offset[j] + i), load(g + i), a[j][0]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) {
    s[j] = v8{};
    if (j < G)
#pragma GCC unroll 8
      for (int u = 0; u < U; u++) s[j] += a[j < G ? j : 0][u];
  }
}

// The same for a number of survivors and a row length known only now.
static inline void dot_group(int64_t group, const float* g, int64_t g_stride, const float* x,
                             int64_t x_stride, const int32_t* offset, int64_t rows, int64_t row,
                             v8 (&s)[8]) {
  const auto run = [&](auto kernel) { kernel(g, g_stride, x, x_stride, offset, rows, row, s); };
  if (row % 64 == 0) {
    switch (group) {
      case 1: return run(dot_rows<1, 8>);
      case 2: return run(dot_rows<2, 4>);
      case 3: return run(dot_rows<3, 4>);
      case 4: return run(dot_rows<4, 2>);
      case 5: return run(dot_rows<5, 2>);
      case 6: return run(dot_rows<6, 2>);
      case 7: return run(dot_rows<7, 1>);
      default: return run(dot_rows<8, 1>);
    }
  }
  switch (group) {
    case 1: return run(dot_rows<1, 2>);
    case 2: return run(dot_rows<2, 2>);
    case 3: return run(dot_rows<3, 2>);
    case 4: return run(dot_rows<4, 2>);
    case 5: return run(dot_rows<5, 2>);
    case 6: return run(dot_rows<6, 1>);
    case 7: return run(dot_rows<7, 1>);
    default: return run(dot_rows<8, 1>);
  }
}

static void add_weight_gradient(const WeightGradient& w, Place at) {
  const Survivors& l = w.list;
  const float *in = w.in.at(at, 0), *gz = w.gz.at(at, 0);
  float* sums = w.sums + at.group * w.stride;
  for (int64_t h0 = 0; h0 < w.height; h0 += w.pass)
    for (int64_t segment = 0; segment < l.blocks * l.outputs.count; segment++)
      for (int64_t r = 0; r < l.rows; r++) {
        const int32_t* e = l.start + segment * l.rows + r;
        if (e[0] == e[1]) continue;
        int64_t low = h0, high = h0 + w.pass < w.height ? h0 + w.pass : w.height;
        if (l.rows > 1) {  // rows of the border add nothing
          const int64_t shift = l.first_row + r;
          if (low + shift < 0) low = -shift;
          if (high + shift > l.input_height) high = l.input_height - shift;
          if (high <= low) continue;
        }
        const int64_t o = l.outputs.index[segment % l.outputs.count];
        const float* g = gz + o * w.gz.channel_stride + low * w.gz.row_stride;
        const float* x = in + low * w.in.row_stride;
        for (int64_t i = e[0]; i < e[1]; i += 8) {
          const int64_t left = e[1] - i;
          v8 s[8];
          dot_group(left < 8 ? left : 8, g, w.gz.row_stride, x, w.in.row_stride, l.offset + i,
                    high - low, w.row, s);
          store(sums + i, load(sums + i) + sum_each(s));  // lanes past the group add 0
        }
      }
}
