// Convolutions and products over all time steps, and tanh, compiled once for each instruction set.
#include "conv2d_wgrad.h"
#include "gemm.h"
#include "tanh.h"

extern "C" {
void CANTON_NAME(convolve)(const ConvolutionRun& run) { convolve(run); }
void CANTON_NAME(convolve_weights)(const ConvolutionRun& run) { convolve_weights(run); }
void CANTON_NAME(gemm)(const GemmRun& run) { gemm(run); }
void CANTON_NAME(tanh)(const TanhRun& run) { matrix_tanh(run); }
}
