// Threads that share the groups of a batch, for the length of an epoch.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

class Team {
 public:
  explicit Team(int64_t threads) {
    for (int64_t t = 1; t < threads; t++) others_.emplace_back([this, t] { serve(t); });
  }
  ~Team() {
    stop_ = true;
    round_.fetch_add(1, std::memory_order_release);
    for (std::thread& other : others_) other.join();
  }

  // Calls f(i, thread) for every i below `count`, in any order, and waits for the end of all.
  template <class F> void each(int64_t count, const F& f) {
    if (others_.empty()) {
      for (int64_t i = 0; i < count; i++) f(i, 0);
      return;
    }
    call_ = [](const void* g, int64_t i, int64_t thread) { (*(const F*)g)(i, thread); };
    work_ = &f;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    busy_.store((int64_t)others_.size(), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    take(0);
    for (int64_t spins = 0; busy_.load(std::memory_order_acquire) > 0; spins++) pause(spins);
  }

 private:
  void take(int64_t thread) {
    for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;)
      call_(work_, i, thread);
  }
  void serve(int64_t thread) {
    for (int64_t seen = 0;; seen++) {
      for (int64_t spins = 0; round_.load(std::memory_order_acquire) == seen; spins++) pause(spins);
      if (stop_) return;
      take(thread);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }
  // Waits are short; who waits longer lets others have the core.
  static void pause(int64_t spins) {
    if (spins > 1000) std::this_thread::yield();
  }

  std::vector<std::thread> others_;
  std::atomic<int64_t> round_{0}, next_{0}, busy_{0};
  std::atomic<bool> stop_{false};
  void (*call_)(const void*, int64_t, int64_t) = nullptr;
  const void* work_ = nullptr;
  int64_t count_ = 0;
};
