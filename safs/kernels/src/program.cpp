// One training step of a masked network on the CPU, at the cost of its surviving weights.
//
// A step is a list of operations. Those up to the next batch-wide one form a segment, and each
// block of images runs through a whole segment while its data stay in cache; between segments stand
// the operations that need the whole batch (batch norm's statistics). A network without batch norm
// is one segment from the images to the gradients of the weights. safs/kernels/plan.py writes the
// list and owns all memory; this file walks it, batch by batch, for a whole epoch.
//
// Files: vector.h (arithmetic), operators.h (activations), maps.h (layout), convolution.h (survivor
// lists), stage.h (norm, operator, pooling), norm.h (batch statistics), layers.h (the rest),
// ends.h (images in, loss out), weights.h, optimizers.h, single.h (one layer between torch's own),
// roofline.h (for benchmarks).
#include <chrono>
#include "convolution.h"
#include "ends.h"
#include "layers.h"
#include "maps.h"
#include "norm.h"
#include "operators.h"
#include "optimizers.h"
#include "roofline.h"
#include "single.h"
#include "stage.h"
#include "weights.h"

enum Code {
  GATHER, CONVOLUTION, STAGE, LOGITS, CROSS_ENTROPY, STAGE_BACKWARD, NORM_INPUT_GRADIENT,
  WEIGHT_GRADIENT, PHASES, PHASES_BACKWARD, AVERAGE, AVERAGE_BACKWARD, MAXIMUM, MAXIMUM_BACKWARD,
  GATE, GATE_BACKWARD, CLEAR,
  BATCH_WIDE,  // what follows runs once per batch
  NORM, NORM_BACKWARD,
};

struct Operation {
  int64_t code;
  const void* arguments;
  int64_t images;               // per call
  double seconds;               // spent here, where a profile is taken
};

// Gradient of a bias: every `step`-th of `sums`, which are cleared.
struct Bias {
  double* sums;
  float* gradient;
  int64_t count, step;
};

// Parameters of one activation slot. `held` are the own parameters inside their bounds, whose
// gradient passes through to the free ones, as `held` in safs/operators/base.py.
struct Slot {
  int64_t code, own, size, trains;  // own parameters; values of each; whether they are learned
  const float* free[MAX_OWN];
  float* gradient[MAX_OWN];
  float* held;                  // [size][MAX_OWN]
  double* sums;                 // gradients of `held`
  float *g_alpha, *g_beta;      // null: not learned
  double* scale_sums;
};

struct Program {
  const Operation *train, *evaluate;
  const Weights* weights;
  const Bias* biases;
  const Slot* slots;
  const Parameter* parameters;
  int64_t train_count, evaluate_count, weights_count, biases_count, slots_count, parameters_count;
  Rule rule;
  const Head* head;
  float* before;                // room for the largest parameter
  double free;                  // surviving weights, biases and batch norm parameters
  int64_t batch, block;         // images per step; images that run through a segment together
  int64_t profile;              // 1: keep the seconds of every operation
};

struct Session {
  const Images& images;
  const Batch& batch;
  float* logits;
};

static void run_block(const Operation& o, const Session& s, Place at) {
  const void* a = o.arguments;
  switch (o.code) {
    case GATHER: return gather(*(const Input*)a, s.images, s.batch, at);
    case CONVOLUTION: return convolve(*(const Convolution*)a, s.batch, at);
    case STAGE: return stage_forward(*(const Stage*)a, at);
    case LOGITS: return copy_logits(*(const Head*)a, s.batch, at, s.logits);
    case CROSS_ENTROPY: return cross_entropy(*(const Head*)a, s.batch, at);
    case STAGE_BACKWARD: return stage_backward(*(const Stage*)a, at);
    case NORM_INPUT_GRADIENT: return norm_input_gradient(*(const Stage*)a, s.batch, at);
    case WEIGHT_GRADIENT: return add_weight_gradient(*(const WeightGradient*)a, at);
    case PHASES: return split_phases(*(const Phases*)a, at);
    case PHASES_BACKWARD: return join_phases(*(const Phases*)a, at);
    case AVERAGE: return average(*(const Average*)a, at);
    case AVERAGE_BACKWARD: return spread_average(*(const Average*)a, at);
    case MAXIMUM: return maximum(*(const Maximum*)a, at);
    case MAXIMUM_BACKWARD: return route_maximum(*(const Maximum*)a, at);
    case GATE: return gate(*(const Gate*)a, at);
    case GATE_BACKWARD: return gate_backward(*(const Gate*)a, at);
    case CLEAR: {
      const Clear& c = *(const Clear*)a;
      return clear(c.g, c.channels, c.height, c.width, at, c.g.n());
    }
  }
}

static void run_once(const Operation& o, const Batch& batch) {
  const Norm& norm = *(const Norm*)o.arguments;
  switch (o.code) {
    case NORM: return batch.training ? norm_forward(norm, batch) : norm_evaluation(norm);
    case NORM_BACKWARD: return norm_backward(norm, batch);
  }
}

static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void run(const Program& p, Operation* operations, int64_t count, const Session& s) {
  for (int64_t i = 0, next; i < count; i = next) {
    int64_t wide = i;
    while (wide < count && operations[wide].code < BATCH_WIDE) wide++;
    for (next = wide; next < count && operations[next].code > BATCH_WIDE;) next++;
    for (int64_t block = 0; block < s.batch.count; block += p.block)
      for (int64_t k = i; k < wide; k++) {
        Operation& o = operations[k];
        const double started = p.profile ? now() : 0;
        for (int64_t offset = 0; offset < p.block; offset += o.images)
          run_block(o, s, {block, offset});
        if (p.profile) o.seconds += now() - started;
      }
    for (int64_t k = wide; k < next; k++) {
      const double started = p.profile ? now() : 0;
      run_once(operations[k], s.batch);
      if (p.profile) operations[k].seconds += now() - started;
    }
  }
}

// ---- parameters around a step -------------------------------------------------------------------
static void collect(const Bias& b) {
  for (int64_t c = 0; c < b.count; c++) {
    b.gradient[c] = (float)b.sums[c * b.step];
    b.sums[c * b.step] = 0;
  }
}

// As in safs/operators/candidates.py and others.py.
constexpr float SRS_SMALLEST = 1e-3f, SRS_LARGEST_RATIO = 2.5f;
constexpr int64_t SRS_CODE = 5, FALU_CODE = 18;

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static void hold(const Slot& s) {
  for (int64_t c = 0; c < s.size; c++) {
    float* held = s.held + c * MAX_OWN;
    for (int64_t i = 0; i < s.own; i++) held[i] = s.free[i][c];
    if (s.code == SRS_CODE) {
      for (int i = 0; i < 2; i++)
        if (held[i] < SRS_SMALLEST) held[i] = SRS_SMALLEST;
      const float most = SRS_LARGEST_RATIO * held[0];
      if (held[1] > most) held[1] = most;
    } else if (s.code == FALU_CODE) {
      held[0] = clamp(held[0], 0.f, 2.f);
      held[1] = clamp(held[1], 1.f, 10.f);
    }
  }
}

// SRS holds b below a multiple of a: beyond it b's gradient belongs to a, at it to both.
static void share_srs_gradient(const Slot& s, double* sums) {
  const float b = s.free[1][0] < SRS_SMALLEST ? SRS_SMALLEST : s.free[1][0];
  const float most = SRS_LARGEST_RATIO * s.held[0];
  const double share = b < most ? 0 : b > most ? 1 : 0.5;
  sums[0] += share * SRS_LARGEST_RATIO * sums[1];
  sums[1] *= 1 - share;
}

static void collect(const Slot& s) {
  if (s.g_alpha) *s.g_alpha = (float)s.scale_sums[0];
  if (s.g_beta) *s.g_beta = (float)s.scale_sums[1];
  s.scale_sums[0] = s.scale_sums[1] = 0;
  if (!s.trains) return;
  for (int64_t c = 0; c < s.size; c++) {
    double* sums = s.sums + c * MAX_OWN;
    if (s.code == SRS_CODE) share_srs_gradient(s, sums);
    for (int64_t i = 0; i < s.own; i++) {
      s.gradient[i][c] = (float)sums[i];
      sums[i] = 0;
    }
  }
}

static void prepare(const Program& p) {
  for (int64_t i = 0; i < p.weights_count; i++) refresh(p.weights[i]);
  for (int64_t i = 0; i < p.slots_count; i++) hold(p.slots[i]);
}

static void step(Program& p, const Images& images, const Batch& batch, Sums& sums) {
  run(p, (Operation*)p.train, p.train_count, {images, batch, nullptr});
  for (int64_t i = 0; i < p.weights_count; i++) collect(p.weights[i]);
  for (int64_t i = 0; i < p.biases_count; i++) collect(p.biases[i]);
  for (int64_t i = 0; i < p.slots_count; i++) collect(p.slots[i]);
  p.rule.step++;
  update_all(p.parameters, p.parameters_count, p.rule, p.before, p.free, sums);
  prepare(p);
  sums.steps++;
  sums.images += batch.count;
  sums.loss = p.head->sums[p.head->classes];
  sums.correct = p.head->sums[p.head->classes + 1];
}

// ---- interface ----------------------------------------------------------------------------------
// An epoch over `count` images in the order given; it stops where the loss is not finite.
extern "C" void safs_train_epoch(Program* p, const Images* images, const int64_t* labels,
                                 const int64_t* order, int64_t count, double lr, Sums* sums) {
  *sums = Sums{};
  p->rule.lr = lr;
  double* head = p->head->sums;
  head[p->head->classes] = head[p->head->classes + 1] = 0;
  prepare(*p);
  for (int64_t start = 0; start < count && std::isfinite(sums->loss); start += p->batch) {
    const Batch batch = {smaller(p->batch, count - start), 1, order + start, labels};
    step(*p, *images, batch, *sums);
  }
}

// logits[count][classes] in evaluation mode.
extern "C" void safs_logits(Program* p, const Images* images, const int64_t* order, int64_t count,
                            float* logits) {
  prepare(*p);
  for (int64_t start = 0; start < count; start += p->batch) {
    const Batch batch = {smaller(p->batch, count - start), 0, order + start, nullptr};
    const Session session = {*images, batch, logits + start * p->head->classes};
    run(*p, (Operation*)p->evaluate, p->evaluate_count, session);
  }
}

// f and f' of an operator at count (a multiple of 8) points, and derivatives [own][count] with
// respect to its own parameters; for tests.
extern "C" void safs_operator(int64_t code, const float* own, const float* x, int64_t count,
                              float* f, float* d, float* own_gradients) {
  with_operator(code, [&](auto op) {
    using F = decltype(op);
    for (int64_t i = 0; i < count; i += LANES) {
      v8 ff, dd;
      F::eval(load(x + i), own, ff, dd);
      store(f + i, ff);
      store(d + i, dd);
      if constexpr (F::own > 0) {
        v8 g[F::own];
        F::own_gradient(load(x + i), own, g);
        for (int k = 0; k < F::own; k++) store(own_gradients + k * count + i, g[k]);
      }
    }
  });
}
