// How wide a vector is on the instruction set that a file is compiled for.
#pragma once

#if defined(__AVX512F__)
#define RCNNKIT_VECTOR_BYTES 64
#elif defined(__AVX__)
#define RCNNKIT_VECTOR_BYTES 32
#else
#define RCNNKIT_VECTOR_BYTES 16
#endif
