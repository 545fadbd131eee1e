// The cells, compiled once for each instruction set; dispatch.cpp picks one when a call comes.
#include "conv2d_wgrad.h"
#include "cells/gru_single_step.h"
#include "cells/gru.h"
#include "cells/lstm.h"
#include "gemm.h"
#include "cells/min_gru.h"
#include "thread_pool.h"
#include "cells/gru_planar.h"

template <class Cell, void (Cell::*loop)(const Sequence&, const Team&)>
static void run(const Sequence& q) {
    Cell cell(q);
    struct Context {
        Cell* cell;
        const Sequence* q;
    } context{&cell, &q};
    canton_parallel(q, &context, [](void* p, const Team& team) {
        Context* c = static_cast<Context*>(p);
        (c->cell->*loop)(*c->q, team);
    });
}

extern "C" {
void CANTON_NAME(gru_before)(const Sequence& q) {
    if (DenseStep::serves(q)) return DenseStep::run(q);
    if (ThinGRUBefore::serves(q)) return run<ThinGRUBefore, &ThinGRUBefore::forward>(q);
    run<GRUBefore, &GRUBefore::forward>(q);
}
void CANTON_NAME(gru_before_gradient)(const Sequence& q) { run<GRUBeforeGradient, &GRUBeforeGradient::backward>(q); }
void CANTON_NAME(lstm)(const Sequence& q) { run<LSTM, &LSTM::forward>(q); }
void CANTON_NAME(lstm_gradient)(const Sequence& q) { run<LSTMGradient, &LSTMGradient::backward>(q); }
void CANTON_NAME(convolve)(const ConvolutionRun& r) { convolve(r); }
void CANTON_NAME(convolve_weights)(const ConvolutionRun& r) { convolve_weights(r); }
void CANTON_NAME(matmul)(const MatmulRun& r) { matmul(r); }

void CANTON_NAME(min_gru)(const Sequence& q) { run<MinGRU, &MinGRU::forward>(q); }
void CANTON_NAME(min_gru_gradient)(const Sequence& q) { run<MinGRU, &MinGRU::backward>(q); }
}
