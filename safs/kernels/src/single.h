// One layer by itself, between tensors [N][C][H][W] of torch.
//
// A block of images at a time goes into the layout of maps.h, through the kernels and back, so that
// the copies stay in cache. The backward pass copies x again rather than keep it twice.
#pragma once
#include <cstring>
#include "convolution.h"
#include "weights.h"

// Where a block of images of a tensor [N][groups][pixels] lies: pixel i of group g in the map's n
// floats from g * stride + place[i]. Borders, and phase planes for strides, are in `place`.
struct Blocks {
  Map map;
  const int32_t* place;
  int64_t groups, pixels, stride;
};

struct Single {
  Convolution forward, backward;  // x to y, and y to gx
  WeightGradient gradient;
  Weights weights;                // without values and gradient: they come with every call
  Blocks x, gx, y;                // y holds z, then its gradient
};

static inline v8 load_some(const float* p, int64_t count) {
  if (count >= LANES) return load(p);
  v8 v{};
  memcpy(&v, p, count * sizeof(float));
  return v;
}

static inline void store_some(float* p, v8 v, int64_t count) {
  if (count >= LANES) return store(p, v);
  memcpy(p, &v, count * sizeof(float));
}

// Calls f(first, map, pixel, tensor) for each eight pixels of each eight images of a block.
template <class Eight> static void each_eight(const Blocks& b, int64_t first, Eight f) {
  for (int64_t k = 0; k < b.map.n(); k += LANES)
    for (int64_t g = 0; g < b.groups; g++)
      for (int64_t i = 0; i < b.pixels; i += LANES)
        f(first + k, b.map.p + g * b.stride + k, i,
          ((first + k) * b.groups + g) * b.pixels + i);
}

// The block of images from `first`; those past the last one are 0.
static void enter(const Blocks& b, const float* tensor, int64_t first, int64_t images) {
  const int64_t size = b.groups * b.pixels;
  each_eight(b, first, [&](int64_t image, float* map, int64_t pixel, int64_t from) {
    const int64_t pixels = smaller(LANES, b.pixels - pixel);
    v8 a[8];
    for (int j = 0; j < 8; j++)
      a[j] = image + j < images ? load_some(tensor + from + j * size, pixels) : v8{};
    transpose(a);
    for (int64_t j = 0; j < pixels; j++) store(map + b.place[pixel + j], a[j]);
  });
}

static void leave(const Blocks& b, float* tensor, int64_t first, int64_t images) {
  const int64_t size = b.groups * b.pixels;
  each_eight(b, first, [&](int64_t image, float* map, int64_t pixel, int64_t to) {
    const int64_t pixels = smaller(LANES, b.pixels - pixel);
    v8 a[8];
    for (int j = 0; j < 8; j++) a[j] = j < pixels ? load(map + b.place[pixel + j]) : v8{};
    transpose(a);
    for (int64_t j = 0; j < 8 && image + j < images; j++)
      store_some(tensor + to + j * size, a[j], pixels);
  });
}

// z of x; `bias` may be null.
extern "C" void safs_layer_forward(const Single* layer, int64_t images, const float* weight,
                                   const float* bias, const float* x, float* z) {
  const Single& s = *layer;
  Weights weights = s.weights;
  weights.value = weight;
  refresh(weights);
  Convolution forward = s.forward;
  forward.initial = bias;
  for (int64_t first = 0; first < images; first += s.y.map.n()) {
    enter(s.x, x, first, images);
    convolve(forward, Batch{}, {});
    leave(s.y, z, first, images);
  }
}

// From the gradient of z those of the surviving weights (the others' stay as they are) and of x, each
// unless null.
extern "C" void safs_layer_backward(const Single* layer, int64_t images, const float* weight,
                                    const float* x, const float* gz, float* g_weight, float* gx) {
  const Single& s = *layer;
  Weights weights = s.weights;
  weights.value = weight;
  weights.gradient = g_weight;
  refresh(weights);
  for (int64_t first = 0; first < images; first += s.y.map.n()) {
    enter(s.y, gz, first, images);
    if (g_weight) {
      enter(s.x, x, first, images);
      add_weight_gradient(s.gradient, {});
    }
    if (gx) {
      convolve(s.backward, Batch{}, {});
      leave(s.gx, gx, first, images);
    }
  }
  if (g_weight) collect(weights, 1);
}
