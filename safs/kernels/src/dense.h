// Convolutions and linear layers in which no weight is pruned.
//
// Every output channel reads the same shifted pixels, so one list of offsets serves all of them, and
// output channels share each load. An output is one running sum in the order of the entries, whatever
// the tile that it is computed in.
#pragma once
#include "convolution.h"

constexpr int TOGETHER = 6;     // output channels whose weights lie side by side

// Entry e of a layer: input channel, kernel row and column, as an offset into the padded input.
struct Dense {
  Map in, out;
  const int32_t* offset;        // [entries]
  const float* weight;          // [blocks of entries][outputs / TOGETHER][entry in block][TOGETHER]
  const float* initial;         // what each output channel starts from (bias); null: 0
  Partial statistics;           // [C][2] sums of z and z^2 for batch norm
  int64_t accumulate;           // 1: add to what `out` holds
  int64_t height, row, channels;  // output rows, floats in each (width * n), output channels
  int64_t entries, per_block;   // all, and those of a block of input channels
  int64_t chunk;                // rows whose inputs, of a block of channels, fit the cache
};

// TOGETHER output channels of R vectors, over one block of entries.
template <int R>
static inline __attribute__((always_inline)) void dense_tile(
    const float* x, const int32_t* offset, const float* weight, int64_t count, v8 (&a)[TOGETHER][R]) {
  for (int64_t i = 0; i < count; i++) {
    const float* p = x + offset[i];
    v8 v[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) v[r] = load(p + 8 * r);
#pragma GCC unroll 8
    for (int k = 0; k < TOGETHER; k++) {
      const v8 w = splat(weight[i * TOGETHER + k]);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) a[k][r] = mad(v[r], w, a[k][r]);
    }
  }
}

// Output channels `o` and those after it (as many as there are) of one tile, over one block.
template <int R>
static void dense_outputs(const Dense& d, const float* x, float* out, int64_t o, int64_t block,
                          const float* weight, float* sums) {
  const int64_t first = block * d.per_block, stride = d.out.channel_stride;
  const int64_t there = smaller(TOGETHER, d.channels - o);
  const bool last = first + d.per_block >= d.entries;
  v8 a[TOGETHER][R];
#pragma GCC unroll 8
  for (int k = 0; k < TOGETHER; k++) {  // unrolled with a constant end: `a` stays in registers
    const float start = k < there && d.initial ? d.initial[o + k] : 0.f;
    const float* y = out + (k < there ? o + k : o) * stride;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) a[k][r] = block || d.accumulate ? load(y + 8 * r) : splat(start);
  }
  dense_tile<R>(x, d.offset + first, weight, smaller(d.per_block, d.entries - first), a);
#pragma GCC unroll 8
  for (int k = 0; k < TOGETHER; k++)
    if (k < there) {
      float* y = out + (o + k) * stride;
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) store(y + 8 * r, a[k][r]);
      if (last && sums) add_squares<R>(a[k], sums + 2 * LANES * (o + k));
    }
}

// Rows `h` to `h + rows` of a block of entries. The weights of TOGETHER output channels stay in the
// first-level cache for all of its tiles, the inputs in the second-level one for all channels.
static void dense_chunk(const Dense& d, const float* x, float* y, int64_t rows, int64_t block,
                        const float* weight, float* sums) {
  const int64_t count = smaller(d.per_block, d.entries - block * d.per_block);
  for (int64_t o = 0; o < d.channels; o += TOGETHER, weight += TOGETHER * count)
    for (int64_t h = 0; h < rows; h++) {
      const float* in = x + h * d.in.row_stride;
      float* out = y + h * d.out.row_stride;
      int64_t k = 0;
      for (; k + 16 <= d.row; k += 16) dense_outputs<2>(d, in + k, out + k, o, block, weight, sums);
      for (; k < d.row; k += 8) dense_outputs<1>(d, in + k, out + k, o, block, weight, sums);
    }
}

static void dense(const Dense& d, const Batch& batch, Place at) {
  const int64_t outputs = (d.channels + TOGETHER - 1) / TOGETHER * TOGETHER;
  each_rows(d, batch, at, d.chunk, [&](const float* x, float* y, int64_t h, float* sums) {
    for (int64_t block = 0; block * d.per_block < d.entries; block++)
      dense_chunk(d, x, y, smaller(d.chunk, d.height - h), block,
                  d.weight + outputs * block * d.per_block, sums);
  });
}

// ---- gradient of the weights --------------------------------------------------------------------
struct DenseGradient {
  Map in, gz;
  const int32_t* offset;        // [entries], and 2 to spare
  float* sums;                  // [groups][outputs / 4][entries / 3][4][3], and 4 to spare
  int64_t stride;               // from a group's sums to the next one's
  int64_t height, row, pass, outputs, entries;  // output rows, floats in each, rows per pass
};

// Four output channels times three entries over some rows: s[outputs][entries].
static void dense_dots(const float* const (&g)[4], int64_t g_stride, const float* x,
                       int64_t x_stride, const int32_t* offset, int64_t rows, int64_t row,
                       float* sums) {
  v8 a[12] = {};
  for (int64_t h = 0; h < rows; h++) {
    const float *p = x + h * x_stride + offset[0], *q = x + h * x_stride + offset[1];
    const float* r = x + h * x_stride + offset[2];
    for (int64_t i = 0; i < row; i += 8) {
      const v8 xs[3] = {load(p + i), load(q + i), load(r + i)};
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        const v8 gradient = load(g[k] + h * g_stride + i);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) a[3 * k + j] = mad(xs[j], gradient, a[3 * k + j]);
      }
    }
  }
  const v8 low[8] = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]};
  const v8 high[8] = {a[8], a[9], a[10], a[11]};
  store(sums, load(sums) + sum_each(low));
  store(sums + 8, load(sums + 8) + sum_each(high));  // lanes past the twelve add 0
}

static void add_dense_gradient(const DenseGradient& w, Place at) {
  const float *in = w.in.at(at, 0), *gz = w.gz.at(at, 0);
  for (int64_t h = 0; h < w.height; h += w.pass) {
    const int64_t rows = smaller(w.pass, w.height - h);
    float* sums = w.sums + at.group * w.stride;
    for (int64_t o = 0; o < w.outputs; o += 4) {
      const float* g[4];
      for (int k = 0; k < 4; k++)
        g[k] = gz + smaller(o + k, w.outputs - 1) * w.gz.channel_stride + h * w.gz.row_stride;
      for (int64_t e = 0; e < w.entries; e += 3, sums += 12)
        dense_dots(g, w.gz.row_stride, in + h * w.in.row_stride, w.in.row_stride, w.offset + e,
                   rows, w.row, sums);
    }
  }
}

// ---- weights ------------------------------------------------------------------------------------
// A copy of the weights for dense_columns. That of entry e for output o is value[o * step + place[e]].
struct Packed {
  float* weight;                // as Dense has them; null: not wanted
  const int32_t* place;
  int64_t step, outputs, entries, per_block;
};

static void pack(const Packed& p, const float* value) {
  float* w = p.weight;
  if (!w) return;
  for (int64_t first = 0; first < p.entries; first += p.per_block)
    for (int64_t o = 0; o < p.outputs; o += TOGETHER)
      for (int64_t e = first; e < p.entries && e < first + p.per_block; e++)
        for (int64_t k = o; k < o + TOGETHER; k++)
          *w++ = k < p.outputs ? value[k * p.step + p.place[e]] : 0.f;
}

// The weights of a dense layer, [outputs][entries] in the order of PyTorch.
struct DenseWeights {
  const float* value;
  float *gradient, *sums;       // sums as in DenseGradient
  int64_t stride;
  Packed forward, backward;
};

static void collect(const DenseWeights& w, int64_t groups) {
  const int64_t outputs = w.forward.outputs, entries = w.forward.entries;
  float* sums = w.sums;
  for (int64_t o = 0; o < outputs; o += 4)
    for (int64_t e = 0; e < entries; e += 3, sums += 12)
      for (int64_t i = 0; i < 12; i++) {
        float total = 0;
        for (int64_t g = 0; g < groups; g++) {
          total += sums[g * w.stride + i];
          sums[g * w.stride + i] = 0;
        }
        const int64_t out = o + i / 3, entry = e + i % 3;
        if (out < outputs && entry < entries)
          w.gradient[out * entries + w.forward.place[entry]] = total;
      }
}
