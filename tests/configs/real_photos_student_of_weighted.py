# The class weight lifts the teacher's labels; the student needs no CLIP at test.
_base_ = './real_photos_student.py'
teacher = 'real_photos_class_weight.py'
