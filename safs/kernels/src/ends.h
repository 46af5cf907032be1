// The two ends of a network: images in, cross-entropy out.
#pragma once
#include <vector>
#include "maps.h"

// ---- images -------------------------------------------------------------------------------------
// The data set, and how a pixel becomes a number: scale[c] * byte + shift[c], or itself where pixels
// are floats.
struct Images {
  const uint8_t* bytes;         // [N][C][H][W], or null
  const float* floats;          // the same as floats, where there are no bytes
  const int64_t* offset;        // [N][2] rows and columns of a crop in a border of `pad`, or null
  const uint8_t* mirror;        // [N] flip left to right, or null
  const float *scale, *shift;   // [C]
  int64_t pad;
};
struct Input { Map x; int64_t channels, height, width; };

typedef int32_t four_bytes __attribute__((aligned(1), may_alias));

// Four pixels of each of eight images, as one 32-bit number per image.
static inline i8 load_pixels(const uint8_t* const (&rows)[8], int64_t from) {
  const auto at = [&](int i) { return (int32_t) * (const four_bytes*)(rows[i] + from); };
  return i8{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)};
}

// One row of eight images into the map.
static void put_row(const Images& images, const Input& in, const uint8_t* const (&rows)[8],
                    int64_t channel, float* x) {
  const int64_t n = in.x.n();
  const float scale = images.scale[channel], shift = images.shift[channel];
  if (in.width < 4) {
    for (int64_t w = 0; w < in.width; w++)
      for (int64_t i = 0; i < 8; i++) x[w * n + i] = __builtin_fmaf(rows[i][w], scale, shift);
    return;
  }
  for (int64_t w = 0; w < in.width; w += 4) {
    const int64_t from = w + 4 <= in.width ? w : in.width - 4;
    const i8 pixels = load_pixels(rows, from);
    for (int i = 0; i < 4; i++) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
      const i8 byte = (pixels >> 8 * i) & 0xff;
#else
      const i8 byte = (pixels >> (24 - 8 * i)) & 0xff;
#endif
      store(x + (from + i) * n, mad(__builtin_convertvector(byte, v8), scale, shift));
    }
  }
}

static void put_row(const Images&, const Input& in, const float* const (&rows)[8], int64_t,
                    float* x) {
  for (int64_t w = 0; w < in.width; w++)
    for (int64_t i = 0; i < 8; i++) x[w * in.x.n() + i] = rows[i][w];
}

// Row h of a cropped and perhaps mirrored image; pixels of the border are 0.
template <class Pixel>
static void crop_row(const Images& images, const Pixel* pixels, const Input& in, int64_t image,
                     int64_t channel, int64_t h, Pixel* out) {
  const int64_t row = images.offset ? h + images.offset[2 * image] - images.pad : h;
  const int64_t left = images.offset ? images.offset[2 * image + 1] - images.pad : 0;
  const Pixel* source = pixels + ((image * in.channels + channel) * in.height + row) * in.width;
  const bool flip = images.mirror && images.mirror[image];
  for (int64_t w = 0; w < in.width; w++) {
    const int64_t column = (flip ? in.width - 1 - w : w) + left;
    const bool inside = row >= 0 && row < in.height && column >= 0 && column < in.width;
    out[w] = inside ? source[column] : Pixel(0);
  }
}

// The border of a crop is 0 after normalisation, not a black pixel.
static void clear_border(const Images& images, const Input& in, int64_t image, float* x) {
  const int64_t up = images.offset[2 * image] - images.pad;
  const int64_t left = images.offset[2 * image + 1] - images.pad;
  if (up == 0 && left == 0) return;
  const bool flip = images.mirror && images.mirror[image];
  for (int64_t h = 0; h < in.height; h++) {
    const bool whole = h + up < 0 || h + up >= in.height;
    for (int64_t w = 0; w < in.width; w++) {
      const int64_t column = (flip ? in.width - 1 - w : w) + left;
      if (whole || column < 0 || column >= in.width) x[h * in.x.row_stride + w * in.x.n()] = 0.f;
    }
  }
}

template <class Pixel>
static void gather_from(const Pixel* pixels, const Input& in, const Images& images,
                        const Batch& batch, Place at) {
  const bool moved = images.offset || images.mirror;
  std::vector<Pixel> buffer(moved ? 8 * in.width : 0);
  for (int64_t k = 0; k < in.x.n(); k += LANES) {
    int64_t number[8];
    for (int64_t i = 0; i < 8; i++) {
      const int64_t image = at.block + at.offset + k + i;
      number[i] = batch.order[image < batch.count ? image : batch.count - 1];
    }
    for (int64_t c = 0; c < in.channels; c++) {
      float* x = in.x.at(at.after(k), c);
      for (int64_t h = 0; h < in.height; h++) {
        const Pixel* rows[8];
        for (int64_t i = 0; i < 8; i++) {
          const int64_t row = (number[i] * in.channels + c) * in.height + h;
          Pixel* copy = buffer.data() + i * in.width;
          if (moved) crop_row(images, pixels, in, number[i], c, h, copy);
          rows[i] = moved ? copy : pixels + row * in.width;
        }
        put_row(images, in, rows, c, x + h * in.x.row_stride);
      }
      if (images.offset)
        for (int64_t i = 0; i < 8; i++) clear_border(images, in, number[i], x + i);
    }
  }
}

static void gather(const Input& in, const Images& images, const Batch& batch, Place at) {
  if (images.bytes) gather_from(images.bytes, in, images, batch, at);
  else gather_from(images.floats, in, images, batch, at);
}

// ---- cross-entropy ------------------------------------------------------------------------------
struct Head {
  Map z, gz;
  int64_t classes;
  Partial sums;                 // [classes] bias gradients, then loss and correct predictions
};

// Softmax, loss and its gradient, the mean over the batch; the first of equal largest wins.
static void cross_entropy(const Head& t, const Batch& batch, Place at) {
  const float scale = 1.f / (float)batch.count;
  const int64_t stride = t.z.channel_stride, g_stride = t.gz.channel_stride;
  double* sums = t.sums.of(at);
  for (int64_t k = 0; k < t.z.n(); k += LANES) {
    const Place here = at.after(k);
    const float* z = t.z.at(here, 0);
    float* g = t.gz.at(here, 0);
    const int64_t first = here.block + here.offset, left = batch.count - first;
    const i8 counted = first_lanes(left);
    i8 label{}, winner{};
    for (int64_t i = 0; i < LANES && i < left; i++)
      label[i] = (int32_t)batch.labels[batch.order[first + i]];
    v8 highest = load(z), total{}, picked{};
    for (int64_t c = 1; c < t.classes; c++) {
      const v8 value = load(z + c * stride);
      const i8 wins = (value > highest) | (value != value);
      highest = wins ? value : highest;
      winner = wins ? i8{} + (int32_t)c : winner;
    }
    for (int64_t c = 0; c < t.classes; c++) {
      const v8 d = load(z + c * stride) - highest, e = exp(d);
      store(g + c * g_stride, e);
      total += e;
      picked = label == (int32_t)c ? d : picked;
    }
    const v8 loss = log(total) - picked, r = 1.f / total;
    sums[t.classes] += sum(counted ? loss : v8{});
    sums[t.classes + 1] += sum((label == winner) & counted ? splat(1.f) : v8{});
    for (int64_t c = 0; c < t.classes; c++) {
      const v8 target = label == (int32_t)c ? splat(1.f) : v8{};
      const v8 e = (load(g + c * g_stride) * r - target) * scale;
      const v8 gradient = counted ? e : v8{};
      store(g + c * g_stride, gradient);
      sums[c] += sum(gradient);
    }
  }
}

static void copy_logits(const Head& t, const Batch& batch, Place at, float* logits) {
  for (int64_t k = 0; k < t.z.n(); k++) {
    const int64_t image = at.block + at.offset + k;
    if (image >= batch.count) return;
    for (int64_t c = 0; c < t.classes; c++)
      logits[image * t.classes + c] = *t.z.at(at.after(k), c);
  }
}
