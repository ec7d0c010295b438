// Stands before the emulated driver and answers some calls as another driver, or a driver of another GPU, does.
//
// It is loaded as `libcuda.so`, and the emulator as `libcuda.so.1`, on which it depends: what this file does not define,
// the loader finds there. The environment says how it differs:
//   OTHER_DRIVER_INIT        the answer of cuInit
//   OTHER_DRIVER_VERSION     what cuDriverGetVersion tells, such as 12020
//   OTHER_DRIVER_CAPABILITY  compute capability of the GPU, such as 12.9
//   OTHER_DRIVER_REFUSES     kinds of images that are refused: a text that contains "cubin" or "ptx"
//   OTHER_DRIVER_LOG         a file that gets one line per image: "cubin", or "ptx" and the PTX's target
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_IMAGE = 200,
    NO_BINARY_FOR_GPU = 209,
    UNSUPPORTED_PTX_VERSION = 222,
    OPERATING_SYSTEM = 304,
    CAPABILITY_MAJOR = 75,
    CAPABILITY_MINOR = 76,
};

static void *next(const char *name) { return dlsym(dlopen("libcuda.so.1", RTLD_NOW), name); }

int cuInit(unsigned flags) {
    const char *answer = getenv("OTHER_DRIVER_INIT");
    return answer ? atoi(answer) : ((int (*)(unsigned))next("cuInit"))(flags);
}

int cuDriverGetVersion(int *version) {
    const char *told = getenv("OTHER_DRIVER_VERSION");
    if (!told) return ((int (*)(int *))next("cuDriverGetVersion"))(version);
    *version = atoi(told);
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int major, minor;
    const char *told = getenv("OTHER_DRIVER_CAPABILITY");
    if (told && sscanf(told, "%d.%d", &major, &minor) == 2 &&
        (attribute == CAPABILITY_MAJOR || attribute == CAPABILITY_MINOR)) {
        *value = attribute == CAPABILITY_MAJOR ? major : minor;
        return SUCCESS;
    }
    return ((int (*)(int *, int, int))next("cuDeviceGetAttribute"))(value, attribute, device);
}

int cuModuleLoadData(void **module, const void *image) {
    const char *refuses = getenv("OTHER_DRIVER_REFUSES");
    const char *log = getenv("OTHER_DRIVER_LOG");
    int cubin = memcmp(image, "\177ELF", 4) == 0;
    if (log) {
        FILE *file = fopen(log, "a");
        if (!file) return OPERATING_SYSTEM;
        const char *name = cubin ? 0 : strstr(image, ".target ");
        if (name) {
            fprintf(file, "ptx %.*s\n", (int)strcspn(name + 8, ",\n"), name + 8);
        } else {
            fprintf(file, "%s\n", cubin ? "cubin" : "ptx");
        }
        fclose(file);
    }
    if (refuses && strstr(refuses, cubin ? "cubin" : "ptx")) return cubin ? NO_BINARY_FOR_GPU : UNSUPPORTED_PTX_VERSION;
    if (cubin) {
        // A driver would take it; nothing here can run it, so its functions are not found.
        *module = 0;
        return SUCCESS;
    }
    char *text = strdup(image);
    if (!text) return OPERATING_SYSTEM;
    // A newer GPU runs PTX of its architecture; the emulator would refuse it for the name alone.
    char *target = getenv("OTHER_DRIVER_CAPABILITY") ? strstr(text, ".target ") : 0;
    if (target) {
        static const char EMULATED[] = ".target sm_86";
        // Every name from sm_80 on is at least as long.
        size_t length = strcspn(target, ",\n");
        memset(target, ' ', length);
        memcpy(target, EMULATED, sizeof EMULATED - 1);
    }
    int answer = ((int (*)(void **, const void *))next("cuModuleLoadData"))(module, text);
    free(text);
    return answer;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (!module) return OPERATING_SYSTEM;
    return ((int (*)(void **, void *, const char *))next("cuModuleGetFunction"))(function, module, name);
}

int cuModuleUnload(void *module) {
    return module ? ((int (*)(void *))next("cuModuleUnload"))(module) : SUCCESS;
}
