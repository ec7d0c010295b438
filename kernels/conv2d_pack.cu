// Packs the model's filter for conv2d_gather: rows in the order in which a result pixel sums its products.
//
//   packed[first row of the phase + (t taps_x + u) channels + c][j] = sum of w over the kernel entries (ky, kx) of tap (t, u),
// where w[o,i,ky,kx] has (j, c) = (o, i) for the convolution and (i, o) for its input gradient. Rows from a phase's
// last to the next multiple of 16 and columns from the last to `columns_padded` are zeros, so that products need no
// check.
struct Conv2dPackParams {
    const float *filter;  // f32 [O, I, kernel_height, kernel_width]
    float *packed;        // f32 [sum over phases of taps * channels rounded up to 16, columns_padded]
    int kernel_height;
    int kernel_width;
    int channels;        // summed over
    int columns;         // produced
    int columns_padded;  // columns rounded up to the tile
    int input_grad;      // 1: columns are I, channels O
    int phases;          // along an axis
    int taps_y[4];       // for each row phase: rows of taps
    int taps_x[4];       // for each column phase: columns of taps
    unsigned members_y[32];  // kernel rows of tap row t in row phase a, as the bits of element 8 a + t
    unsigned members_x[32];  // kernel columns of tap column t in column phase a, as the bits of element 8 a + t
};

constexpr int SIDE = 16;
// Rows of a phase are padded to the depth of the product's tiles.
constexpr int CHUNK = 16;

// Launch      grid (columns_padded / 16, ceil(channels / 16)), block 256, dynamic shared memory
//             16 * (16 * kernel_height * kernel_width + 1) floats.
// Traffic     reads the filter once, writes the packed filter once; overwrites.
// Order       a tap's entries are added in f32 by row, then column.
// Registers <= 64
extern "C" __global__ void __launch_bounds__(SIDE *SIDE) conv2d_pack(const Conv2dPackParams p) {
    extern __shared__ float tile[];  // [16 outputs][16 inputs][kernel_height][kernel_width], and one float per output
    const int entries = p.kernel_height * p.kernel_width;
    const int pitch = SIDE * entries + 1;
    const int first_column = blockIdx.x * SIDE, first_channel = blockIdx.y * SIDE;
    const int outputs = p.input_grad ? p.channels : p.columns, inputs = p.input_grad ? p.columns : p.channels;
    const int first_output = p.input_grad ? first_channel : first_column;
    const int first_input = p.input_grad ? first_column : first_channel;

    // An output's 16 inputs lie together: each half warp reads one output's run.
    const int run = min(SIDE, inputs - first_input) * entries;
    for (int output = threadIdx.x / SIDE; output < SIDE; output += SIDE) {
        const float *from = p.filter + ((long long)(first_output + output) * inputs + first_input) * entries;
        const bool exists = first_output + output < outputs;
        for (int i = threadIdx.x % SIDE; i < SIDE * entries; i += SIDE)
            tile[output * pitch + i] = exists && i < run ? from[i] : 0.0f;
    }
    __syncthreads();

    const int j = threadIdx.x % SIDE, c = threadIdx.x / SIDE;
    const float *entry = p.input_grad ? tile + c * pitch + j * entries : tile + j * pitch + c * entries;
    float *packed = p.packed + first_column + j;
    long long phase_row = 0;
    for (int phase_y = 0; phase_y < p.phases; ++phase_y) {
        for (int phase_x = 0; phase_x < p.phases; ++phase_x) {
            const int taps_y = p.taps_y[phase_y], taps_x = p.taps_x[phase_x];
            for (int t = 0; t < taps_y; ++t) {
                for (int u = 0; u < taps_x; ++u) {
                    const unsigned rows = p.members_y[phase_y * 8 + t], columns = p.members_x[phase_x * 8 + u];
                    float sum = 0.0f;
                    for (int ky = 0; ky < p.kernel_height; ++ky)
                        for (int kx = 0; kx < p.kernel_width; ++kx)
                            if ((rows >> ky & 1) && (columns >> kx & 1)) sum += entry[ky * p.kernel_width + kx];
                    if (first_channel + c < p.channels) {
                        const long long row = phase_row + (t * taps_x + u) * (long long)p.channels + first_channel + c;
                        packed[row * p.columns_padded] = sum;
                    }
                }
            }
            const long long depth = (long long)taps_y * taps_x * p.channels;
            const long long padded = (depth + CHUNK - 1) / CHUNK * CHUNK;
            if (blockIdx.y == 0 && depth + c < padded)
                packed[(phase_row + depth + c) * p.columns_padded] = 0.0f;
            phase_row += padded;
        }
    }
}
