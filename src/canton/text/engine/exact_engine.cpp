// The engine without fused multiply-add (hatch_build.py compiles this file with -ffp-contract=off): every sum has one order and
// every operation is rounded by itself, so that all instruction sets and machines give the same bits. For compression.
#define CANTON_EXACT
#include "engine.cpp"
