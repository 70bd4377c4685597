"""Names in earlier records, and what the same thing is called today: records of years ago stay comparable."""

PRODUCTS = {"sliced": "bitsliced"}  # in `machine.products` of a run
LOOKUP_EPILOGUE = "popcount_epilogue"  # what both shared: the gemm of look-up leaves floats since
KERNELS = {  # kernels and stages, in results/kernels.jsonl and the shares of results/arm.jsonl
    "attend_bits": "boolean_attention",
    "attend_codes": "softmax_attention",
    "code_row": "quantize_row",
    "count": "bitsliced_gemm",
    "decide": "bitsliced_sign_epilogue",
    "encode": "bitsliced_encode",
    "finish": "bitsliced_epilogue",
    "look_up": "lookup_gemm",
    "look_up_encode": "lookup_encode",
    "look_up_finish": LOOKUP_EPILOGUE,
    "lookup_epilogue": LOOKUP_EPILOGUE,
    "lut_gemm": "lookup",
    "sliced": "bitsliced",
}


def product_today(name: str) -> str:
    """Today's name of a product."""
    return PRODUCTS.get(name, name)


def kernel_today(name: str) -> str:
    """Today's name of a kernel or stage, with its variant behind a comma if it has one."""
    kernel, comma, variant = name.partition(",")
    return KERNELS.get(kernel, kernel) + comma + variant
