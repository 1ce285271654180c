// Drives upstream's own libllama through its C API alone: what `tacit bench inference` compares with.
//
//   llamacpp KERNELS MODEL CONTEXT prompt TOKENS        tokens per second of one prompt, best of five
//   llamacpp KERNELS MODEL CONTEXT decode TOKENS SEQS   tokens per second of greedy answers, SEQS at a time, best of five
//   llamacpp KERNELS MODEL CONTEXT text TOKENS PROMPT   the likeliest continuation of a text
//
// One thread, steps of at most 512 tokens, unified cache: as the engine under test is set.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml-backend.h"
#include "llama.h"

enum { BATCH = 512, ROUNDS = 5 };

static void fail(const char *what) {
    fprintf(stderr, "llamacpp: %s\n", what);
    exit(1);
}

static void silent(enum ggml_log_level level, const char *text, void *data) {
    (void)level;
    (void)text;
    (void)data;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void add(struct llama_batch *batch, llama_token token, llama_pos position, llama_seq_id sequence, bool read) {
    int32_t at = batch->n_tokens++;
    batch->token[at] = token;
    batch->pos[at] = position;
    batch->n_seq_id[at] = 1;
    batch->seq_id[at][0] = sequence;
    batch->logits[at] = read;
}

static llama_token likeliest(const float *logits, int32_t count) {
    llama_token best = 0;
    for (int32_t token = 1; token < count; token++) {
        if (logits[token] > logits[best]) best = token;
    }
    return best;
}

// The same tokens as the engine under test is asked with.
static llama_token some(int32_t index, int32_t vocabulary) {
    return (llama_token)(1000 + ((int64_t)index * 7919) % (vocabulary - 2000));
}

static double prompt(struct llama_context *context, int32_t tokens, int32_t vocabulary, int round) {
    struct llama_batch batch = llama_batch_init(BATCH, 0, 1);
    llama_memory_clear(llama_get_memory(context), false);
    double begin = seconds();
    for (int32_t done = 0; done < tokens;) {
        batch.n_tokens = 0;
        for (; done < tokens && batch.n_tokens < BATCH; done++) {
            add(&batch, some(done + round, vocabulary), done, 0, done + 1 == tokens);
        }
        if (llama_decode(context, batch)) fail("decode");
    }
    (void)likeliest(llama_get_logits_ith(context, -1), vocabulary);
    double rate = tokens / (seconds() - begin);
    llama_batch_free(batch);
    return rate;
}

static double decode(struct llama_context *context, int32_t tokens, int32_t sequences, int32_t vocabulary) {
    struct llama_batch batch = llama_batch_init(BATCH, 0, 1);
    llama_memory_clear(llama_get_memory(context), false);
    llama_token next[64];
    for (int32_t sequence = 0; sequence < sequences; sequence++) {
        batch.n_tokens = 0;
        for (int32_t at = 0; at < 16; at++) add(&batch, some(at + sequence, vocabulary), at, sequence, at == 15);
        if (llama_decode(context, batch)) fail("decode");
        next[sequence] = likeliest(llama_get_logits_ith(context, -1), vocabulary);
    }
    double begin = seconds();
    for (int32_t step = 0; step < tokens; step++) {
        batch.n_tokens = 0;
        for (int32_t sequence = 0; sequence < sequences; sequence++) add(&batch, next[sequence], 16 + step, sequence, true);
        if (llama_decode(context, batch)) fail("decode");
        for (int32_t sequence = 0; sequence < sequences; sequence++) {
            next[sequence] = likeliest(llama_get_logits_ith(context, sequence), vocabulary);
        }
    }
    double rate = tokens * sequences / (seconds() - begin);
    llama_batch_free(batch);
    return rate;
}

static void text(struct llama_context *context, const struct llama_vocab *words, int32_t tokens, const char *prompt) {
    llama_token known[BATCH];
    int32_t count = llama_tokenize(words, prompt, (int32_t)strlen(prompt), known, BATCH, false, true);
    if (count <= 0) fail("tokenize");
    struct llama_batch batch = llama_batch_get_one(known, count);
    for (int32_t at = 0; at < tokens; at++) {
        if (llama_decode(context, batch)) fail("decode");
        known[0] = likeliest(llama_get_logits_ith(context, -1), llama_vocab_n_tokens(words));
        if (llama_vocab_is_eog(words, known[0])) break;
        char piece[256];
        int32_t length = llama_token_to_piece(words, known[0], piece, sizeof piece, 0, false);
        if (length > 0) fwrite(piece, 1, (size_t)length, stdout);
        batch = llama_batch_get_one(known, 1);
    }
}

int main(int count, char **arguments) {
    if (count < 6) fail("usage: llamacpp KERNELS MODEL CONTEXT prompt|decode|text TOKENS [SEQS|PROMPT]");
    llama_log_set(silent, NULL);
    llama_backend_init();
    if (!ggml_backend_load(arguments[1])) fail("the kernels do not load");
    struct llama_model_params loading = llama_model_default_params();
    struct llama_context_params running = llama_context_default_params();
    // The headers are those of the engine under test. If the library were built with others, this would not be at its place.
    if (running.n_batch != 2048 || running.type_k != GGML_TYPE_F16 || running.type_v != GGML_TYPE_F16 || !running.offload_kqv
        || !running.no_perf || running.embeddings || running.n_samplers || loading.vocab_only) {
        fail("the library was built with other headers");
    }
    loading.n_gpu_layers = 0;
    struct llama_model *model = llama_model_load_from_file(arguments[2], loading);
    if (!model) fail("the model does not load");
    running.n_ctx = (uint32_t)atoi(arguments[3]);
    running.n_batch = running.n_ubatch = BATCH;
    running.n_seq_max = 8;
    running.kv_unified = true;
    running.n_threads = running.n_threads_batch = 1;
    struct llama_context *context = llama_init_from_model(model, running);
    if (!context) fail("no context");
    const struct llama_vocab *words = llama_model_get_vocab(model);
    int32_t vocabulary = llama_vocab_n_tokens(words), tokens = atoi(arguments[5]);
    if (!strcmp(arguments[4], "text")) {
        if (count < 7) fail("no prompt");
        text(context, words, tokens, arguments[6]);
        return 0;
    }
    int32_t sequences = count > 6 ? atoi(arguments[6]) : 1;
    if (sequences < 1 || sequences > 8 || tokens < 1) fail("1 to 8 sequences");
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        bool is_prompt = !strcmp(arguments[4], "prompt");
        double rate = is_prompt ? prompt(context, tokens, vocabulary, round) : decode(context, tokens, sequences, vocabulary);
        if (rate > best) best = rate;
    }
    printf("%.3f\n", best);
    return 0;
}
