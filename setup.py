from setuptools import find_packages, setup

EXPORT = ['onnx', 'onnxscript', 'onnxruntime']
DEMO = ['gradio>=6']
RAY = ['ray[data]']
SUPERPIXELS = ['scikit-image']

setup(
    name='maskclip-plus',
    version='0.1.0',
    description='Segment any photo into any classes named in words, without annotation',
    packages=find_packages(include=['mmseg', 'mmseg.*']),
    package_data={
        'mmseg.vocabularies': ['data/*.txt'],
        'mmseg.clip': ['miniature/*.json', 'miniature/*.safetensors'],
    },
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',
        'torchvision',
        'huggingface_hub',
        'open_clip_torch>=3.0',
        'timm>=1.0.15',
        'mmengine-lite>=0.10.7',
        'opencv-python-headless',
        'matplotlib',
        'packaging',
        'pydantic>=2',
        'pycocotools',
        'numpy',
        'pillow>=10.1',
        'safetensors',
        'scipy',
        'tensorboard',
        'tqdm',
    ],
    entry_points={'console_scripts': ['maskclip = mmseg.cli:main']},
    extras_require={
        'export': EXPORT,
        'demo': DEMO,
        'ray': RAY,
        'superpixels': SUPERPIXELS,
        'tests': [
            'pytest',
            'pytest-xdist',
            'playwright',
            'ruff',
            'torchmetrics',
            'transformers>=5',
            'scikit-learn',
            *SUPERPIXELS,
            'nbclient',
            'ipykernel',
            *EXPORT,
            *DEMO,
            *RAY,
        ],
    },
)
