// Layers beside convolutions and stages: phase planes, average and maximum pooling, gating.
//
// Each works on the channels that some output needs. A backward function either writes the gradient
// of its input or adds to it, as `accumulate` says.
#pragma once
#include "maps.h"
#include "stage.h"

static inline v8 sum_or(bool accumulate, const float* p, v8 v) {
  return accumulate ? load(p) + v : v;
}

// ---- phase planes -------------------------------------------------------------------------------
// Plane (i, j) of channel c, channel (c * step + i) * step + j of `y`, holds the pixels
// (step h + i, step w + j) of x: a convolution of stride `step` becomes one of stride 1.
struct Phases {
  Map x, y, gx, gy;
  Channels channels;
  int64_t step, height, width, accumulate;  // of x
};

template <class Pixel> static void each_phase(const Phases& s, Pixel pixel) {
  for (int64_t j = 0; j < s.channels.count; j++)
    for (int64_t h = 0; h < s.height; h++)
      for (int64_t w = 0; w < s.width; w++) {
        const int64_t c = s.channels.index[j];
        pixel(c, h, w, (c * s.step + h % s.step) * s.step + w % s.step, h / s.step, w / s.step);
      }
}

static inline float* pixel_at(const Map& m, Place at, int64_t c, int64_t h, int64_t w) {
  return m.at(at, c) + h * m.row_stride + w * m.n();
}

static void split_phases(const Phases& s, Place at) {
  const int64_t length = smaller(s.x.n(), s.y.n());
  each_phase(s, [&](int64_t c, int64_t h, int64_t w, int64_t plane, int64_t ph, int64_t pw) {
    const float* x = pixel_at(s.x, at, c, h, w);
    float* y = pixel_at(s.y, at, plane, ph, pw);
    for (int64_t k = 0; k < length; k += LANES) store(y + k, load(x + k));
  });
}

static void join_phases(const Phases& s, Place at) {
  const int64_t length = smaller(s.gx.n(), s.gy.n());
  each_phase(s, [&](int64_t c, int64_t h, int64_t w, int64_t plane, int64_t ph, int64_t pw) {
    float* gx = pixel_at(s.gx, at, c, h, w);
    const float* gy = pixel_at(s.gy, at, plane, ph, pw);
    for (int64_t k = 0; k < length; k += LANES)
      store(gx + k, sum_or(s.accumulate, gx + k, load(gy + k)));
  });
}

// ---- windows ------------------------------------------------------------------------------------
// Output pixel (h, w) covers input rows top[h] to bottom[h] and columns left[w] to right[w], ends
// not included.
struct Windows { const int32_t *top, *bottom, *left, *right; int64_t out_height, out_width; };

struct Average {
  Map x, y, gx, gy;
  Channels channels;
  Windows windows;
  int64_t height, width, accumulate;  // of x
  const float* weight;          // [out_height][out_width], one over the pixels averaged
};

template <class Window>
static void each_window(const Channels& channels, const Windows& s, Window f) {
  for (int64_t j = 0; j < channels.count; j++)
    for (int64_t h = 0; h < s.out_height; h++)
      for (int64_t w = 0; w < s.out_width; w++) f(channels.index[j], h, w);
}

static void average(const Average& s, Place at) {
  const int64_t length = smaller(s.x.n(), s.y.n());
  const Windows& windows = s.windows;
  each_window(s.channels, windows, [&](int64_t c, int64_t h, int64_t w) {
    for (int64_t k = 0; k < length; k += LANES) {
      v8 total{};
      for (int32_t i = windows.top[h]; i < windows.bottom[h]; i++)
        for (int32_t j = windows.left[w]; j < windows.right[w]; j++)
          total += load(pixel_at(s.x, at, c, i, j) + k);
      store(pixel_at(s.y, at, c, h, w) + k, total * s.weight[h * windows.out_width + w]);
    }
  });
}

// Empties the channels of a gradient that only other layers write whole.
struct Clear { Map g; Channels channels; int64_t height, width; };

static void clear(const Map& m, const Channels& channels, int64_t height, int64_t width, Place at,
                  int64_t length) {
  for (int64_t j = 0; j < channels.count; j++)
    for (int64_t h = 0; h < height; h++)
      for (int64_t w = 0; w < width; w++)
        for (int64_t k = 0; k < length; k += LANES)
          store(pixel_at(m, at, channels.index[j], h, w) + k, v8{});
}

static void spread_average(const Average& s, Place at) {
  const int64_t length = smaller(s.gx.n(), s.gy.n());
  const Windows& windows = s.windows;
  if (!s.accumulate) clear(s.gx, s.channels, s.height, s.width, at, length);
  each_window(s.channels, windows, [&](int64_t c, int64_t h, int64_t w) {
    const float* gy = pixel_at(s.gy, at, c, h, w);
    const float weight = s.weight[h * windows.out_width + w];
    for (int32_t i = windows.top[h]; i < windows.bottom[h]; i++)
      for (int32_t j = windows.left[w]; j < windows.right[w]; j++) {
        float* gx = pixel_at(s.gx, at, c, i, j);
        for (int64_t k = 0; k < length; k += LANES)
          store(gx + k, load(gx + k) + load(gy + k) * weight);
      }
  });
}

// Maximum pooling that no stage could take in. `winner` keeps the number of the winning pixel,
// row times width plus column.
struct Maximum {
  Map x, y, gx, gy, winner;
  Channels channels;
  Windows windows;
  int64_t height, width, accumulate;  // of x
};

static void maximum(const Maximum& s, Place at) {
  const int64_t length = smaller(s.x.n(), s.y.n());
  const Windows& windows = s.windows;
  each_window(s.channels, windows, [&](int64_t c, int64_t h, int64_t w) {
    for (int64_t k = 0; k < length; k += LANES) {
      v8 best{}, where{};
      bool first = true;
      for (int32_t i = windows.top[h]; i < windows.bottom[h]; i++)
        for (int32_t j = windows.left[w]; j < windows.right[w]; j++, first = false) {
          const v8 v = load(pixel_at(s.x, at, c, i, j) + k);
          const i8 wins = first ? i8{} - 1 : (v > best) | (v != v);
          best = wins ? v : best;
          where = wins ? splat((float)(i * s.width + j)) : where;
        }
      store(pixel_at(s.y, at, c, h, w) + k, best);
      store(pixel_at(s.winner, at, c, h, w) + k, where);
    }
  });
}

static void route_maximum(const Maximum& s, Place at) {
  const int64_t length = smaller(s.gx.n(), s.gy.n());
  const Windows& windows = s.windows;
  if (!s.accumulate) clear(s.gx, s.channels, s.height, s.width, at, length);
  each_window(s.channels, windows, [&](int64_t c, int64_t h, int64_t w) {
    for (int32_t i = windows.top[h]; i < windows.bottom[h]; i++)
      for (int32_t j = windows.left[w]; j < windows.right[w]; j++) {
        float* gx = pixel_at(s.gx, at, c, i, j);
        const float *gy = pixel_at(s.gy, at, c, h, w), *winner = pixel_at(s.winner, at, c, h, w);
        for (int64_t k = 0; k < length; k += LANES) {
          const i8 won = load(winner + k) == (float)(i * s.width + j);
          store(gx + k, load(gx + k) + (won ? load(gy + k) : v8{}));
        }
      }
  });
}

// ---- gating -------------------------------------------------------------------------------------
// y = x s, with one s per image and channel (squeeze-and-excitation).
struct Gate {
  Map x, s, y, gx, gs, gy;
  Channels channels;
  int64_t height, width, accumulate_x, accumulate_s;
};

static int64_t images_per_call(const Gate& g) {
  return smaller(smaller(g.x.n(), g.s.n()), g.y.n());
}

static void gate(const Gate& g, Place at) {
  const int64_t length = images_per_call(g);
  for (int64_t i = 0; i < g.channels.count; i++) {
    const int64_t c = g.channels.index[i];
    for (int64_t k = 0; k < length; k += LANES) {
      const v8 s = load(g.s.at(at, c) + k);
      for (int64_t h = 0; h < g.height; h++)
        for (int64_t w = 0; w < g.width; w++)
          store(pixel_at(g.y, at, c, h, w) + k, load(pixel_at(g.x, at, c, h, w) + k) * s);
    }
  }
}

static void gate_backward(const Gate& g, Place at) {
  const int64_t length = images_per_call(g);
  for (int64_t i = 0; i < g.channels.count; i++) {
    const int64_t c = g.channels.index[i];
    for (int64_t k = 0; k < length; k += LANES) {
      const v8 s = load(g.s.at(at, c) + k);
      v8 total{};
      for (int64_t h = 0; h < g.height; h++)
        for (int64_t w = 0; w < g.width; w++) {
          const v8 gradient = load(pixel_at(g.gy, at, c, h, w) + k);
          float* gx = pixel_at(g.gx, at, c, h, w) + k;
          total = mad(gradient, load(pixel_at(g.x, at, c, h, w) + k), total);
          store(gx, sum_or(g.accumulate_x, gx, gradient * s));
        }
      float* gs = g.gs.at(at, c) + k;
      store(gs, sum_or(g.accumulate_s, gs, total));
    }
  }
}
