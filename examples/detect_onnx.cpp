// Find things with an exported detector by ONNX Runtime, in C++.
//
//     rcnnkit export best.safetensors --with-preprocessing --out cells.onnx
//     g++ -std=c++17 detect_onnx.cpp -I$ONNXRUNTIME_ROOT/include -L$ONNXRUNTIME_ROOT/lib -lonnxruntime -o detect_onnx
//     ./detect_onnx cells.onnx picture.ppm
//
// It prints label, score, x1, y1, x2, y2 of each detection. The picture is a binary PPM, which needs no library to read.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    int64_t height = 0, width = 0;
    std::vector<uint8_t> pixels;  // rows of red, green, blue
};

Picture read_ppm(const std::string& name) {
    std::ifstream file(name, std::ios::binary);
    std::string kind;
    Picture picture;
    int most = 0;
    if (!(file >> kind >> picture.width >> picture.height >> most) || kind != "P6" || most != 255)
        throw std::runtime_error(name + " is not a binary PPM of 8 bits without comments");
    file.get();  // the one white space before the pixels
    picture.pixels.resize(picture.height * picture.width * 3);
    if (!file.read(reinterpret_cast<char*>(picture.pixels.data()), picture.pixels.size()))
        throw std::runtime_error(name + " ends too early");
    return picture;
}

int main(int count, char** arguments) {
    if (count != 3) {
        std::fprintf(stderr, "usage: %s FILE.onnx PICTURE.ppm\n", arguments[0]);
        return 2;
    }
    try {
        Picture picture = read_ppm(arguments[2]);
        Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "detect");
        Ort::SessionOptions options;
        Ort::Session session(env, arguments[1], options);
        const std::array<int64_t, 4> shape{1, picture.height, picture.width, 3};
        Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        Ort::Value pixels = Ort::Value::CreateTensor<uint8_t>(
            memory, picture.pixels.data(), picture.pixels.size(), shape.data(), shape.size());
        const char* inputs[] = {"pixels"};
        const char* outputs[] = {"boxes", "scores", "labels", "counts"};
        std::vector<Ort::Value> found = session.Run(Ort::RunOptions{nullptr}, inputs, &pixels, 1, outputs, 4);
        const float* boxes = found[0].GetTensorData<float>();
        const float* scores = found[1].GetTensorData<float>();
        const int64_t* labels = found[2].GetTensorData<int64_t>();
        const int64_t detections = *found[3].GetTensorData<int64_t>();
        for (int64_t i = 0; i < detections; ++i, boxes += 4)
            std::printf("%d %.4f %.2f %.2f %.2f %.2f\n", static_cast<int>(labels[i]), scores[i], boxes[0], boxes[1],
                        boxes[2], boxes[3]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
