// The four optimisers of safs/training/optimizers.py over surviving weights, and gradient flow.
#pragma once
#include <cmath>
#include <cstdint>

struct Parameter {
  float *value, *gradient, *first, *second;  // first: momentum or first moment
  double* weight_sum;           // TAdam's sum of weights
  int64_t count;
  int64_t weight;               // 1: decays and counts in gradient flow; 0: an activation's
};

enum Kind { SGD, ADAM, FROMAGE, TADAM };

struct Rule {
  int64_t kind, step;           // step: updates done so far
  double lr, momentum, decay, beta1, beta2, eps;
  double sum_kept, sum_added;   // TAdam's W <- sum_kept W + sum_added w
};

// Sums over an epoch; definitions as in safs/training/loop.py.
struct Sums {
  double loss, correct, flow, flow_step, flow_released;
  int64_t steps, images;
};

// base^n by squaring: the C library's pow rounds as it likes.
static double power(double base, int64_t n) {
  double result = 1;
  for (; n > 0; n >>= 1, base *= base)
    if (n & 1) result *= base;
  return result;
}

static double norm_of(const float* x, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; i++) total += (double)x[i] * x[i];
  return std::sqrt(total);
}

static void sgd_step(const Parameter& p, const Rule& rule, float decay) {
  const float lr = (float)rule.lr, momentum = (float)rule.momentum;
  for (int64_t i = 0; i < p.count; i++) {
    p.first[i] = momentum * p.first[i] + (p.gradient[i] + decay * p.value[i]);
    p.value[i] -= lr * p.first[i];
  }
}

static void adam_step(const Parameter& p, const Rule& rule, float decay) {
  const float rest1 = (float)(1 - rule.beta1), beta2 = (float)rule.beta2;
  const float rest2 = (float)(1 - rule.beta2), eps = (float)rule.eps;
  const float size = (float)(rule.lr / (1 - power(rule.beta1, rule.step)));
  const float root = (float)std::sqrt(1 - power(rule.beta2, rule.step));
  for (int64_t i = 0; i < p.count; i++) {
    const float g = p.gradient[i] + decay * p.value[i];
    p.first[i] += rest1 * (g - p.first[i]);
    p.second[i] = beta2 * p.second[i] + rest2 * g * g;
    p.value[i] -= size * p.first[i] / (std::sqrt(p.second[i]) / root + eps);
  }
}

static void fromage_step(const Parameter& p, const Rule& rule) {
  const double size = norm_of(p.value, p.count), slope = norm_of(p.gradient, p.count);
  const float step = (float)(rule.lr * (size > 0 && slope > 0 ? size / slope : 1.0));
  const float shrink = (float)std::sqrt(1 + rule.lr * rule.lr);
  for (int64_t i = 0; i < p.count; i++) p.value[i] = (p.value[i] - step * p.gradient[i]) / shrink;
}

static void tadam_step(const Parameter& p, const Rule& rule, float decay) {
  const float eps = (float)rule.eps, beta2 = (float)rule.beta2, rest2 = (float)(1 - rule.beta2);
  double distance = 0;
  for (int64_t i = 0; i < p.count; i++) {
    const float away = p.gradient[i] + decay * p.value[i] - p.first[i];
    distance += away * away / (p.second[i] + eps);
  }
  const double dimension = (double)p.count, weight = 2 * dimension / (dimension + distance);
  const double total = *p.weight_sum + weight;
  const float keep = (float)(*p.weight_sum / total), take = (float)(weight / total);
  *p.weight_sum = *p.weight_sum * rule.sum_kept + weight * rule.sum_added;
  const float size = (float)(rule.lr / (1 - power(rule.beta1, rule.step)));
  const float second = (float)(1 - power(rule.beta2, rule.step));
  for (int64_t i = 0; i < p.count; i++) {
    const float g = p.gradient[i] + decay * p.value[i];
    p.first[i] = keep * p.first[i] + take * g;
    p.second[i] = beta2 * p.second[i] + rest2 * g * g;
    p.value[i] -= size * p.first[i] / (std::sqrt(p.second[i] / second) + eps);
  }
}

static void update(const Parameter& p, const Rule& rule) {
  const float decay = p.weight ? (float)rule.decay : 0.f;
  switch (rule.kind) {
    case SGD: return sgd_step(p, rule, decay);
    case ADAM: return adam_step(p, rule, decay);
    case FROMAGE: return fromage_step(p, rule);
    case TADAM: return tadam_step(p, rule, decay);
  }
}

// One update of every parameter. `before` has room for the largest parameter; `free` is the number
// of surviving weights, biases and batch norm parameters.
static void update_all(const Parameter* parameters, int64_t count, const Rule& rule, float* before,
                       double free, Sums& sums) {
  double squares = 0, moved = 0, absolutes = 0;
  for (int64_t k = 0; k < count; k++) {
    const Parameter& p = parameters[k];
    if (!p.weight) {
      update(p, rule);
      continue;
    }
    for (int64_t i = 0; i < p.count; i++) before[i] = p.value[i];
    update(p, rule);
    for (int64_t i = 0; i < p.count; i++) {
      const double g = p.gradient[i];
      squares += g * g;
      moved += g * ((double)before[i] - p.value[i]);
      absolutes += std::fabs(g);
    }
  }
  sums.flow += rule.lr * squares;
  sums.flow_step += moved;
  sums.flow_released = absolutes / free;
}
