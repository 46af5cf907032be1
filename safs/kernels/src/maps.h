// Feature maps: blocks of n images with the images innermost, [N / n][C][H][W][n].
//
// The n images of a pixel are contiguous, so the kernels run over contiguous floats whatever the
// kernel size, and one surviving weight is one fused multiply-add per 8 images and pixel. n is a
// power of two and may differ from map to map. Padding is a border of zeros that nothing writes.
//
// A map either holds the whole batch or only the images that are in work; `whole` says which.
#pragma once
#include "vector.h"

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Where an operation works: the first image of the block in work, the image inside that block, the
// group of images whose sums it adds to, and the thread.
struct Place {
  int64_t block, offset, group, thread;
  Place after(int64_t images) const { Place p = *this; p.offset += images; return p; }
};

struct Map {
  float* p;                     // pixel (0, 0) of channel 0 of image 0, inside the border
  int64_t image_block_stride;   // floats from n images to the next n
  int64_t channel_stride, row_stride;
  int64_t whole;                // 1: the whole batch, 0: the block in work only
  int64_t log_n;
  int64_t per_thread;           // floats from a thread's block in work to the next one's
  int64_t n() const { return int64_t(1) << log_n; }
  float* at(Place w, int64_t channel) const {
    const int64_t image = w.block * whole + w.offset, lane = image & (n() - 1);
    return p + (image >> log_n) * image_block_stride + channel * channel_stride + lane +
           w.thread * per_thread;
  }
};

// A list of channels.
struct Channels { const int32_t* index; int64_t count; };

// Sums over the images of a batch, kept apart for each group of images: so they are the same
// however many threads share the groups.
struct Partial {
  double* p;                    // [groups][size]; null: not wanted
  int64_t size;
  double* of(Place at) const { return p ? p + at.group * size : nullptr; }
  double total(int64_t i, int64_t groups) const {
    double t = 0;
    for (int64_t g = 0; g < groups; g++) t += p[g * size + i];
    return t;
  }
  double take(int64_t i, int64_t groups) const {
    const double t = total(i, groups);
    for (int64_t g = 0; g < groups; g++) p[g * size + i] = 0;
    return t;
  }
};

// What is true of the batch in work. Images past `count` are copies of the last one: they fill the
// last block, their gradients are 0 and no statistic counts them.
struct Batch {
  int64_t count;                // images
  int64_t training;             // 0: evaluation mode
  const int64_t* order;         // their numbers in the data set
  const int64_t* labels;        // of the data set, by number; null outside training
  int64_t groups;
};
