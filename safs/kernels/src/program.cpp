// One training step of a masked network on the CPU, at the cost of its surviving weights.
//
// A step is a list of operations. Those up to the next batch-wide one form a segment, and each
// block of images runs through a whole segment while its data stay in cache; between segments stand
// the operations that need the whole batch (batch norm's statistics). A network without batch norm
// is one segment from the images to the gradients of the weights. safs/kernels/plan.py writes the
// list and owns all memory; this file walks it, batch by batch, for a whole epoch.
//
// Threads share the work by groups of blocks. The groups are the same however many threads there
// are, each has sums of its own, and these are added up in the order of the groups: so the number of
// threads changes no bit.
//
// Files: vector.h (arithmetic), operators.h (activations), maps.h (layout), convolution.h (survivor
// lists), dense.h (layers without any pruned weight), stage.h (norm, operator, pooling), norm.h (batch statistics), layers.h (the rest),
// ends.h (images in, loss out), weights.h, optimizers.h, team.h (threads), single.h (one layer
// between torch's own), roofline.h (for benchmarks).
#include <chrono>
#include "convolution.h"
#include "dense.h"
#include "ends.h"
#include "layers.h"
#include "maps.h"
#include "norm.h"
#include "operators.h"
#include "optimizers.h"
#include "roofline.h"
#include "single.h"
#include "stage.h"
#include "team.h"
#include "weights.h"

enum Code {
  GATHER, CONVOLUTION, STAGE, LOGITS, CROSS_ENTROPY, STAGE_BACKWARD, NORM_INPUT_GRADIENT,
  WEIGHT_GRADIENT, PHASES, PHASES_BACKWARD, AVERAGE, AVERAGE_BACKWARD, MAXIMUM, MAXIMUM_BACKWARD,
  GATE, GATE_BACKWARD, CLEAR, DENSE, DENSE_GRADIENT,
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
  Partial sums;
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
  Partial sums;                 // gradients of `held`
  float *g_alpha, *g_beta;      // null: not learned
  Partial scale_sums;
};

struct Program {
  const Operation *train, *evaluate;
  const Weights* weights;
  const DenseWeights* dense;
  const Bias* biases;
  const Slot* slots;
  const Parameter* parameters;
  int64_t train_count, evaluate_count, weights_count, dense_count, biases_count, slots_count, parameters_count;
  Rule rule;
  const Head* head;
  float* before;                // room for the largest parameter
  double free;                  // surviving weights, biases and batch norm parameters
  int64_t batch, block;         // images per step; images that run through a segment together
  int64_t groups, threads;      // of images that have sums of their own; that share the groups
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
    case DENSE: return dense(*(const Dense*)a, s.batch, at);
    case DENSE_GRADIENT: return add_dense_gradient(*(const DenseGradient*)a, at);
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

// The operations from `first` to `last` on every block of a group. Which blocks a group has depends
// on the size of a batch alone.
static void run_group(const Program& p, Operation* first, Operation* last, const Session& s,
                      int64_t group, int64_t thread) {
  const int64_t blocks = (p.batch + p.block - 1) / p.block;
  const int64_t from = group * blocks / p.groups, to = (group + 1) * blocks / p.groups;
  for (int64_t b = from; b < to && b * p.block < s.batch.count; b++)
    for (Operation* o = first; o < last; o++) {
      const double started = p.profile ? now() : 0;
      for (int64_t offset = 0; offset < p.block; offset += o->images)
        run_block(*o, s, {b * p.block, offset, group, thread});
      if (p.profile) o->seconds += now() - started;
    }
}

static void run(const Program& p, Operation* operations, int64_t count, const Session& s,
                Team& team) {
  for (int64_t i = 0, next; i < count; i = next) {
    int64_t wide = i;
    while (wide < count && operations[wide].code < BATCH_WIDE) wide++;
    for (next = wide; next < count && operations[next].code > BATCH_WIDE;) next++;
    team.each(p.groups, [&](int64_t group, int64_t thread) {
      run_group(p, operations + i, operations + wide, s, group, thread);
    });
    for (int64_t k = wide; k < next; k++) {
      const double started = p.profile ? now() : 0;
      run_once(operations[k], s.batch);
      if (p.profile) operations[k].seconds += now() - started;
    }
  }
}

// ---- parameters around a step -------------------------------------------------------------------
static void collect(const Bias& b, int64_t groups) {
  for (int64_t c = 0; c < b.count; c++) b.gradient[c] = (float)b.sums.take(c * b.step, groups);
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

static void collect(const Slot& s, int64_t groups) {
  const double scale[2] = {s.scale_sums.take(0, groups), s.scale_sums.take(1, groups)};
  if (s.g_alpha) *s.g_alpha = (float)scale[0];
  if (s.g_beta) *s.g_beta = (float)scale[1];
  if (!s.trains) return;
  for (int64_t c = 0; c < s.size; c++) {
    double sums[MAX_OWN];
    for (int64_t i = 0; i < s.own; i++) sums[i] = s.sums.take(c * MAX_OWN + i, groups);
    if (s.code == SRS_CODE) share_srs_gradient(s, sums);
    for (int64_t i = 0; i < s.own; i++) s.gradient[i][c] = (float)sums[i];
  }
}

static void prepare(const Program& p, Team& team) {
  team.each(p.weights_count, [&](int64_t i, int64_t) { refresh(p.weights[i]); });
  for (int64_t i = 0; i < p.dense_count; i++) {
    pack(p.dense[i].forward, p.dense[i].value);
    pack(p.dense[i].backward, p.dense[i].value);
  }
  for (int64_t i = 0; i < p.slots_count; i++) hold(p.slots[i]);
}

static void step(Program& p, const Images& images, const Batch& batch, Sums& sums, Team& team) {
  run(p, (Operation*)p.train, p.train_count, {images, batch, nullptr}, team);
  team.each(p.weights_count, [&](int64_t i, int64_t) { collect(p.weights[i], p.groups); });
  for (int64_t i = 0; i < p.dense_count; i++) collect(p.dense[i], p.groups);
  for (int64_t i = 0; i < p.biases_count; i++) collect(p.biases[i], p.groups);
  for (int64_t i = 0; i < p.slots_count; i++) collect(p.slots[i], p.groups);
  p.rule.step++;
  update_all(p.parameters, p.parameters_count, p.rule, p.before, p.free, sums);
  prepare(p, team);
  sums.steps++;
  sums.images += batch.count;
  sums.loss = p.head->sums.total(p.head->classes, p.groups);
  sums.correct = p.head->sums.total(p.head->classes + 1, p.groups);
}

// ---- interface ----------------------------------------------------------------------------------
// An epoch over `count` images in the order given; it stops where the loss is not finite.
extern "C" void safs_train_epoch(Program* p, const Images* images, const int64_t* labels,
                                 const int64_t* order, int64_t count, double lr, Sums* sums) {
  *sums = Sums{};
  p->rule.lr = lr;
  for (int i = 0; i < 2; i++) p->head->sums.take(p->head->classes + i, p->groups);
  Team team(p->profile ? 1 : p->threads);
  prepare(*p, team);
  for (int64_t start = 0; start < count && std::isfinite(sums->loss); start += p->batch) {
    const Batch batch = {smaller(p->batch, count - start), 1, order + start, labels,
                         p->groups};
    step(*p, *images, batch, *sums, team);
  }
}

// logits[count][classes] in evaluation mode.
extern "C" void safs_logits(Program* p, const Images* images, const int64_t* order, int64_t count,
                            float* logits) {
  Team team(p->threads);
  prepare(*p, team);
  for (int64_t start = 0; start < count; start += p->batch) {
    const Batch batch = {smaller(p->batch, count - start), 0, order + start, nullptr, p->groups};
    const Session session = {*images, batch, logits + start * p->head->classes};
    run(*p, (Operation*)p->evaluate, p->evaluate_count, session, team);
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
