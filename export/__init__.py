"""Export to ONNX with proof, smaller variants with their cost, and inspection of any ONNX model.

zoo.export_onnx(MODEL)             (zoo.export.artifacts.export_onnx)
zoo.export.timm_folder.export_timm(MODEL, FOLDER)
zoo.export.inspect.inspect(FILE)
"""
