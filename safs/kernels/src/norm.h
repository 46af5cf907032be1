// Batch norm's part that needs the whole batch: statistics, running statistics, and the sums of the
// backward pass. Its affine maps are applied by the stage (stage.h).
//
// The convolution leaves z = (true pre-activation) - bias + start, where `start` is minus the mean
// of an earlier batch: so the sum of squares hardly cancels. Where a mean has moved far all the
// same (the first batch, or after a large step) z is centred again and its sums are taken anew.
#pragma once
#include <cmath>
#include "convolution.h"
#include "stage.h"

struct Norm {
  const Stage* stage;
  Partial statistics;           // [C][2] sums of z and z^2
  float *gamma, *shift, *g_gamma, *g_shift;
  const float* bias;            // of the convolution; null: none
  float* start;                 // [C] what the convolution starts from
  float *running_mean, *running_variance;
  double *mean, *inverse;       // [C] of the batch: mean of z, 1 / sqrt(variance + eps)
  float* fixed;                 // [C] v of the stage's constant channels
  int64_t pixels, channels;     // per image; of z
  double eps, momentum;
};

// A mean of more than so many standard deviations (squared) costs too many digits of the variance.
constexpr double FAR = 16.0;

static void centre(const Norm& q, const Batch& batch, int64_t c, double mean, double* sums) {
  const Stage& s = *q.stage;
  const int64_t n = s.z.n();
  sums[0] = sums[1] = 0;
  q.start[c] -= (float)mean;
  for (int64_t image = 0; image < batch.count; image += n) {
    float* z = s.z.at({image}, c);
    for (int64_t h = 0; h < s.height; h++)
      for (int64_t k = 0; k < s.width * n; k += LANES) {
        float* p = z + h * s.z.row_stride + k;
        store(p, load(p) - (float)mean);
      }
    sum_statistics(s.z, {image}, c, s.height, s.width, batch.count - image, sums);
  }
}

// Channels that no weight feeds: their pre-activation is the bias, their variance 0.
static void norm_constants(const Norm& q) {
  const Channels& unfed = q.stage->constant;
  for (int64_t j = 0; j < unfed.count; j++) {
    const int64_t c = unfed.index[j];
    const float bias = q.bias ? q.bias[c] : 0.f;
    q.fixed[c] = q.shift[c];
    q.mean[c] = 0;
    q.inverse[c] = 1 / std::sqrt(q.eps);
    q.running_mean[c] += (float)(q.momentum * (bias - q.running_mean[c]));
    q.running_variance[c] -= (float)(q.momentum * q.running_variance[c]);
  }
}

static void norm_forward(const Norm& q, const Batch& batch) {
  const Stage& s = *q.stage;
  const double count = (double)batch.count * q.pixels;
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    double sums[2];
    for (int i = 0; i < 2; i++) sums[i] = q.statistics.take(2 * c + i, batch.groups);
    double mean = sums[0] / count, variance = sums[1] / count - mean * mean;
    if (mean * mean > FAR * std::fabs(variance)) {
      centre(q, batch, c, mean, sums);
      mean = sums[0] / count;
      variance = sums[1] / count - mean * mean;
    }
    if (variance < 0) variance = 0;
    q.mean[c] = mean;
    q.inverse[c] = 1 / std::sqrt(variance + q.eps);
    s.a[c] = (float)(q.gamma[c] * q.inverse[c]);
    s.b[c] = (float)(q.shift[c] - mean * q.gamma[c] * q.inverse[c]);
    const double true_mean = mean - q.start[c] + (q.bias ? q.bias[c] : 0.f);
    const double unbiased = variance * count / (count - 1);
    q.running_mean[c] += (float)(q.momentum * (true_mean - q.running_mean[c]));
    q.running_variance[c] += (float)(q.momentum * (unbiased - q.running_variance[c]));
  }
  norm_constants(q);
}

static void norm_evaluation(const Norm& q) {
  const Stage& s = *q.stage;
  const auto slope = [&](int64_t c) {
    return q.gamma[c] / std::sqrt((double)q.running_variance[c] + q.eps);
  };
  for (int64_t j = 0; j < s.varying.count; j++) {
    const int64_t c = s.varying.index[j];
    const double true_start = q.start[c] - (q.bias ? q.bias[c] : 0.f);
    s.a[c] = (float)slope(c);
    s.b[c] = (float)(q.shift[c] - (q.running_mean[c] + true_start) * slope(c));
  }
  for (int64_t j = 0; j < s.constant.count; j++) {
    const int64_t c = s.constant.index[j];
    const float bias = q.bias ? q.bias[c] : 0.f;
    q.fixed[c] = (float)(q.shift[c] + (bias - q.running_mean[c]) * slope(c));
  }
}

// From sums of gv and gv z: gradients of gamma and shift, and the coefficients of gz. The gradient
// of a bias in front of batch norm is exactly 0.
static void norm_backward(const Norm& q, const Batch& batch) {
  const Stage& s = *q.stage;
  const double count = (double)batch.count * q.pixels;
  for (int64_t c = 0; c < q.channels; c++) {
    const double gv = s.sums.take(2 * c, batch.groups), inverse = q.inverse[c];
    const double gvz = s.sums.take(2 * c + 1, batch.groups);
    const double g_gamma = (gvz - q.mean[c] * gv) * inverse, slope = q.gamma[c] * inverse;
    const double bend = slope * g_gamma / count * inverse;
    q.g_shift[c] = (float)gv;
    q.g_gamma[c] = (float)g_gamma;
    s.ga[c] = (float)slope;
    s.gb[c] = (float)-bend;
    s.gc[c] = (float)(-slope * gv / count + bend * q.mean[c]);
  }
}
