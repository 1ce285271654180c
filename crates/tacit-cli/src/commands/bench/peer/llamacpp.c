// Drives upstream's own libllama through its C API alone: what `tacit bench inference` compares with.
//
//   llamacpp MODEL CONTEXT TEXT TOKENS
//
// `cargo xtask peers` builds it: LIBRARY is the library's name and version, KERNELS the file of ggml's kernels for one instruction
// set. The program reads the first TOKENS tokens of TEXT as the prompt and says as a JSON line what it runs with and which tokens these are. Then,
// for each number on a line of standard input: works through the prompt, then through so many tokens of the likeliest answer, and
// says as a JSON line how many seconds each took, and the answer.
//
// One thread, steps of at most 512 tokens, one cache for eight sequences: as the engine under test is set.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml-backend.h"
#include "llama.h"

enum { BATCH = 512, SEQUENCES = 8, THREADS = 1, MOST = 16384 };

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

static void add(struct llama_batch *batch, llama_token token, llama_pos position, bool read) {
    int32_t at = batch->n_tokens++;
    batch->token[at] = token;
    batch->pos[at] = position;
    batch->n_seq_id[at] = 1;
    batch->seq_id[at][0] = 0;
    batch->logits[at] = read;
}

static llama_token likeliest(const float *logits, int32_t count) {
    llama_token best = 0;
    for (int32_t token = 1; token < count; token++) {
        if (logits[token] > logits[best]) best = token;
    }
    return best;
}

static void print_text(const char *text, size_t length) {
    for (size_t at = 0; at < length; at++) {
        unsigned char byte = (unsigned char)text[at];
        if (byte == '"' || byte == '\\') putchar('\\');
        if (byte < 0x20) printf("\\u%04x", byte);
        else putchar(byte);
    }
}

static void print_ready(const struct llama_context *context, const llama_token *prompt, int32_t length) {
    const char *system = llama_print_system_info();
    printf("{\"library\":\"%s\",\"system\":\"", LIBRARY);
    print_text(system, strlen(system));
    printf("\",\"context\":%u,\"batch\":%u,", llama_n_ctx(context), llama_n_batch(context));
    printf("\"threads\":%d,\"tokens\":[", THREADS);
    for (int32_t at = 0; at < length; at++) printf(at ? ",%d" : "%d", prompt[at]);
    puts("]}");
    fflush(stdout);
}

struct timing {
    double prompt;
    double decode;
};

static struct timing answer(struct llama_context *context, struct llama_batch *batch, const llama_token *prompt,
                            int32_t length, llama_token *answered, int32_t wanted, int32_t vocabulary) {
    llama_memory_clear(llama_get_memory(context), true);
    double begin = seconds();
    for (int32_t done = 0; done < length;) {
        batch->n_tokens = 0;
        for (; done < length && batch->n_tokens < BATCH; done++) add(batch, prompt[done], done, done + 1 == length);
        if (llama_decode(context, *batch)) fail("the prompt fails");
    }
    answered[0] = likeliest(llama_get_logits_ith(context, -1), vocabulary);
    double middle = seconds();
    for (int32_t step = 1; step <= wanted; step++) {
        batch->n_tokens = 0;
        add(batch, answered[step - 1], length + step - 1, true);
        if (llama_decode(context, *batch)) fail("a step fails");
        answered[step] = likeliest(llama_get_logits_ith(context, -1), vocabulary);
    }
    return (struct timing){middle - begin, seconds() - middle};
}

static void print_answer(struct timing timing, const struct llama_vocab *words, const llama_token *tokens, int32_t count) {
    printf("{\"prompt\":%.9f,\"decode\":%.9f,\"answer\":\"", timing.prompt, timing.decode);
    for (int32_t at = 0; at < count; at++) {
        char piece[256];
        int32_t length = llama_token_to_piece(words, tokens[at], piece, sizeof piece, 0, false);
        if (length > 0) print_text(piece, (size_t)length);
    }
    puts("\"}");
    fflush(stdout);
}

// The headers are those of the engine under test, whose version may be another than the library's. Defaults that do not stand at
// their places say that the structures differ.
static void check_layout(const struct llama_model_params *loading, const struct llama_context_params *running) {
    bool model = loading->n_gpu_layers == -1 && loading->split_mode == LLAMA_SPLIT_MODE_LAYER && !loading->main_gpu
        && !loading->tensor_split && !loading->kv_overrides && !loading->vocab_only && !loading->check_tensors
        && loading->use_extra_bufts && !loading->no_alloc;
    bool context = running->n_ctx == 512 && running->n_batch == 2048 && running->n_ubatch == 512 && running->n_seq_max == 1
        && running->n_threads == 4 && running->n_threads_batch == 4 && running->yarn_ext_factor == -1.0f
        && running->yarn_beta_slow == -1.0f && !running->cb_eval && running->type_k == GGML_TYPE_F16
        && running->type_v == GGML_TYPE_F16 && !running->abort_callback && !running->embeddings && running->offload_kqv
        && running->no_perf && running->op_offload && running->swa_full && !running->kv_unified && !running->samplers
        && !running->n_samplers && !running->ctx_other;
    if (!model || !context) fail("the library was built with other headers");
}

static struct llama_context *open(const char *path, uint32_t cells, struct llama_model **model) {
    struct llama_model_params loading = llama_model_default_params();
    struct llama_context_params running = llama_context_default_params();
    check_layout(&loading, &running);
    loading.n_gpu_layers = 0;
    *model = llama_model_load_from_file(path, loading);
    if (!*model) fail("the model does not load");
    running.n_ctx = cells;
    running.n_batch = running.n_ubatch = BATCH;
    running.n_seq_max = SEQUENCES;
    running.kv_unified = true;
    running.n_threads = running.n_threads_batch = THREADS;
    struct llama_context *context = llama_init_from_model(*model, running);
    if (!context) fail("there is no context");
    bool as_asked = llama_n_ctx(context) == cells && llama_n_batch(context) == BATCH && llama_n_ubatch(context) == BATCH
        && llama_n_seq_max(context) == SEQUENCES && llama_n_threads(context) == THREADS;
    if (!as_asked) fail("the context is not as it was asked for");
    return context;
}

int main(int count, char **arguments) {
    if (count != 5) fail("usage: llamacpp MODEL CONTEXT TEXT TOKENS");
    llama_log_set(silent, NULL);
    llama_backend_init();
    if (!ggml_backend_load(KERNELS)) fail("the kernels do not load");
    uint32_t cells = (uint32_t)strtoul(arguments[2], NULL, 10);
    struct llama_model *model;
    struct llama_context *context = open(arguments[1], cells, &model);
    const struct llama_vocab *words = llama_model_get_vocab(model);
    static llama_token known[MOST], answered[MOST];
    int32_t length = atoi(arguments[4]);
    int32_t all = llama_tokenize(words, arguments[3], (int32_t)strlen(arguments[3]), known, MOST, true, true);
    if (length < 1 || all < length || (uint32_t)length > cells) fail("the text is too short or too long");
    print_ready(context, known, length);
    struct llama_batch batch = llama_batch_init(BATCH, 0, 1);
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        int32_t wanted = atoi(line);
        if (wanted < 1 || wanted >= MOST || (uint32_t)(length + wanted) > cells) fail("an answer of no possible length");
        struct timing timing = answer(context, &batch, known, length, answered, wanted, llama_vocab_n_tokens(words));
        print_answer(timing, words, answered, wanted + 1);
    }
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
    return 0;
}
